"""Scores of trained models: ``load_model``, ``predict``, ``score``, and the reports of ``validate.py``."""

from mocse_timm.evaluation.config import ValidateConfig as ValidateConfig
from mocse_timm.evaluation.loading import load_model as load_model
from mocse_timm.evaluation.loading import run_folder as run_folder
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
