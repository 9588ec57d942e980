"""Embeddings of short texts by counting: no model, no training, the same numbers each time.

A word is the sum of random directions, one for itself and one for each of its n-grams of
characters, so that `parse`, `parser` and `parsing` lie close. A text is the sum of its words, each
weighted by how often it occurs there and by how few texts it occurs in (TF-IDF). That is a random
projection of the sparse counts: it keeps their angles within a few hundredths.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DIMS = 384
SEED = 2021
BUCKETS = 1 << 15  # random directions that n-grams are hashed to
NGRAM_SIZES = (3, 4)
NGRAM_WEIGHT = 0.25
NAME_WEIGHT = 3  # how often the words of a text's name count
ROWS_AT_ONCE = 1024

WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def embed(names: Sequence[str], texts: Sequence[str]) -> NDArray[np.float32]:
    """One vector of length 1 per text."""
    words, starts, vocabulary = count_words(names, texts)
    text_of, word_of, counts = distinct_pairs(words, starts, len(vocabulary))
    texts_with = np.bincount(word_of, minlength=len(vocabulary))
    weights = (1 + np.log(counts)) * np.log(len(texts) / texts_with)[word_of]
    directions = word_directions(vocabulary)
    offsets = np.searchsorted(text_of, np.arange(len(texts) + 1))
    vectors = np.empty((len(texts), DIMS), np.float32)
    for start in range(0, len(texts), ROWS_AT_ONCE):
        rows = offsets[start : start + ROWS_AT_ONCE + 1]
        block = slice(rows[0], rows[-1])
        terms = directions[word_of[block]] * weights[block, None].astype(np.float32)
        vectors[start : start + len(rows) - 1] = np.add.reduceat(terms, rows[:-1] - rows[0])
    return normalized(vectors)


def count_words(
    names: Sequence[str], texts: Sequence[str]
) -> tuple[NDArray[np.int32], NDArray[np.int64], list[str]]:
    """All words in order, as numbers; where each text's begin; and which words they are."""
    vocabulary: dict[str, int] = {}
    words = array("i")
    starts = np.empty(len(texts) + 1, np.int64)
    for i, (name, text) in enumerate(zip(names, texts, strict=True)):
        starts[i] = len(words)
        found = WORD.findall(f"{(name + ' ') * NAME_WEIGHT}{text}") or ["?"]
        words.extend(vocabulary.setdefault(word.lower(), len(vocabulary)) for word in found)
    starts[-1] = len(words)
    return np.frombuffer(words, np.int32), starts, list(vocabulary)


def distinct_pairs(
    words: NDArray[np.int32], starts: NDArray[np.int64], vocabulary_size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Which words each text has and how often, in the order of texts."""
    text_of = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    pairs, counts = np.unique(text_of * vocabulary_size + words, return_counts=True)
    return pairs // vocabulary_size, pairs % vocabulary_size, counts


def word_directions(vocabulary: Sequence[str]) -> NDArray[np.float32]:
    """The direction of each word: its own, and some of each of its n-grams of characters."""
    random = np.random.default_rng(SEED)
    buckets = random.standard_normal((BUCKETS, DIMS), np.float32)
    directions = np.empty((len(vocabulary), DIMS), np.float32)
    for i, word in enumerate(vocabulary):
        hashes = [zlib.crc32(gram.encode()) % BUCKETS for gram in (word, *ngrams(word))]
        directions[i] = buckets[hashes[0]] + NGRAM_WEIGHT * buckets[hashes[1:]].sum(axis=0)
    return normalized(directions)


def normalized(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors, each of length 1, in place."""
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def ngrams(word: str) -> list[str]:
    """The runs of 3 and 4 characters of a word with its ends marked."""
    marked = f"<{word}>"
    return [marked[i : i + size] for size in NGRAM_SIZES for i in range(len(marked) - size + 1)]
