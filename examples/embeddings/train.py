"""Learns embeddings from `corpus.txt` (latent semantic analysis) and writes `model.joblib`."""

from pathlib import Path

import joblib
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

sentences = Path("corpus.txt").read_text().splitlines()
model = make_pipeline(
    TfidfVectorizer(stop_words="english", sublinear_tf=True), TruncatedSVD(8, random_state=0), Normalizer()
)
model.fit(sentences)
joblib.dump(model, "model.joblib")

words = len(model[0].vocabulary_)
print(f"{len(sentences)} sentences, {words} words, {model[1].n_components} dimensions")
