"""Trains a classifier of handwritten digits.

Writes `model.joblib`, a picture of a seven that it has not seen, and a small file that would unpack to
a picture of 400 million pixels.
"""

import joblib
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

pixels, digits = load_digits(return_X_y=True)  # 8 x 8 pixels from 0 (paper) to 16 (ink)
train, test, labels, truth = train_test_split(pixels / 16, digits, random_state=0)
model = LogisticRegression(C=10, max_iter=1000).fit(train, labels)
joblib.dump(model, "model.joblib")
print(f"accuracy on {len(truth)} digits that it has not seen: {model.score(test, truth):.2f}")

seven = test[np.flatnonzero(truth == 7)[0]].reshape(8, 8)
Image.fromarray((seven * 255).astype(np.uint8)).resize((128, 128), Image.Resampling.NEAREST).save("seven.png")
Image.new("1", (20_000, 20_000)).save("bomb.png")
