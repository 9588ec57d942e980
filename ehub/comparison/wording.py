"""The figures of a comparison in words: what each is called, and what it says."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["MEANINGS", "Meaning"]


class Meaning(NamedTuple):
    """A title, in which {k} is the number of neighbours, and a sentence or two that explain it."""

    title: str
    text: str


# In the order of tables. The names are attributes of Comparison.
MEANINGS = {
    "coverage": Meaning(
        "coverage", "Share of the view's keys that the other one has. Counted, not sampled."
    ),
    "overlap": Meaning(
        "neighbour overlap@{k}",
        "Share of a key's {k} nearest neighbours that are the same in both views, among the keys "
        "that both have. 1: searches give the same answers.",
    ),
    "rbo": Meaning(
        "rank-biased overlap@{k}",
        "Agreement of the same rankings, where the first ranks weigh most (p = 0.9).",
    ),
    "cka": Meaning(
        "linear CKA, unbiased",
        "Likeness of the two clouds as a whole, whatever their rotation, scale and dims. 1: one is "
        "the other rotated; 0: unrelated.",
    ),
    "residual": Meaning(
        "Procrustes residual",
        "What is left between the views after the best rotation, relative to the second one, on "
        "held-out keys. 0: nothing.",
    ),
    "aligned_recall": Meaning(
        "recall@{k}, aligned",
        "Share of true neighbours that vectors of the first view find in the second one after the "
        "rotation, on held-out keys.",
    ),
    "unaligned_recall": Meaning("recall@{k}, unaligned", "The same without the rotation."),
    "cosine_shift": Meaning(
        "cosine shift", "Quantiles of 1 - cosine between the two vectors of a key."
    ),
    "l2_shift": Meaning("l2 shift", "Quantiles of the Euclidean distance between them."),
    "centroid_shift": Meaning(
        "centroid shift", "Distance of the two means, in spreads of the first view."
    ),
    "norms": Meaning("mean norm", "Mean length of the vectors."),
    "norm_ks": Meaning(
        "norms, KS statistic",
        "Largest distance between the distributions of lengths. 0: the same; 1: apart.",
    ),
    "hubness": Meaning(
        "hubness",
        "Skewness of how often a row is among the {k} nearest of others, within the sample. Above "
        "2 few rows crowd the answers.",
    ),
    "antihubs": Meaning("anti-hubs", "Share of rows that are nobody's neighbour in the sample."),
    "duplicates": Meaning(
        "near-duplicates", "Share of rows with another row at a cosine of 0.999 or more."
    ),
    "anisotropy": Meaning(
        "anisotropy", "Mean cosine of two random rows. Near 1 all vectors point the same way."
    ),
}
