"""Scores of trained models: ``load_model``, ``predict``, ``score``; reports of ``validate.py``, and ``compare``."""

from mocse_timm.checkpoints.by_name import load_model as load_model
from mocse_timm.checkpoints.by_name import run_folder as run_folder
from mocse_timm.evaluation.baseline import read_baseline as read_baseline
from mocse_timm.evaluation.comparison import Comparison as Comparison
from mocse_timm.evaluation.comparison import compare as compare
from mocse_timm.evaluation.config import ValidateConfig as ValidateConfig
from mocse_timm.evaluation.corruption_scores import CorruptionScores as CorruptionScores
from mocse_timm.evaluation.heatmap import draw_heatmap as draw_heatmap
from mocse_timm.evaluation.metrics import ExpertScores as ExpertScores
from mocse_timm.evaluation.metrics import MultiLabelScores as MultiLabelScores
from mocse_timm.evaluation.metrics import Scores as Scores
from mocse_timm.evaluation.metrics import score as score
from mocse_timm.evaluation.metrics import score_multi_label as score_multi_label
from mocse_timm.evaluation.predictions import Predictions as Predictions
from mocse_timm.evaluation.predictions import predict as predict
from mocse_timm.evaluation.report import RunFacts as RunFacts
from mocse_timm.evaluation.report import render as render
from mocse_timm.evaluation.report import result_row as result_row
from mocse_timm.evaluation.report import write_results as write_results
