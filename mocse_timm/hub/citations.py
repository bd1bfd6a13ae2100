"""The papers to cite with a model, as BibTeX."""

from mocse_timm.hub.facts import Facts

__all__ = ["ADVMOE", "MOCSE", "TRADES", "citations"]

MOCSE = """\
@article{kotyan2023mocse,
  title   = {Towards Improving Robustness Against Common Corruptions using Mixture of Class Specific Experts},
  author  = {Kotyan, Shashank and Vargas, Danilo Vasconcellos},
  journal = {arXiv:2311.10177},
  year    = {2023}
}"""

ADVMOE = """\
@inproceedings{zhang2023advmoe,
  title     = {Robust Mixture-of-Expert Training for Convolutional Neural Networks},
  author    = {Zhang, Yihua and Cai, Ruisi and Chen, Tianlong and Zhang, Guanhua and Zhang, Huan and Chen, Pin-Yu and
               Chang, Shiyu and Wang, Zhangyang and Liu, Sijia},
  booktitle = {Proceedings of the IEEE/CVF International Conference on Computer Vision (ICCV)},
  pages     = {90--101},
  year      = {2023},
  note      = {arXiv:2308.10110}
}"""

TRADES = """\
@inproceedings{zhang2019trades,
  title     = {Theoretically Principled Trade-off between Robustness and Accuracy},
  author    = {Zhang, Hongyang and Yu, Yaodong and Jiao, Jiantao and Xing, Eric P. and El Ghaoui, Laurent and
               Jordan, Michael I.},
  booktitle = {Proceedings of the International Conference on Machine Learning (ICML)},
  pages     = {7472--7482},
  year      = {2019},
  note      = {arXiv:1901.08573}
}"""


def citations(facts: Facts) -> list[str]:
    """Return the entries for a model of this architecture, trained by this recipe; none for plain dense networks."""
    found = {"mocse": [MOCSE], "advmoe": [ADVMOE]}.get(facts.kind, [])
    return found + ([TRADES] if facts.training.recipe in ("trades", "advmoe") else [])
