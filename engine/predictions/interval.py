"""How far a measured accuracy may be from the true one, in numbers and in words. Imports next to nothing."""

import math

_Z = 1.959963984540054  # of the normal distribution, 95 % lie within so many deviations


def wilson(accuracy: float, n: int) -> tuple[float, float]:
    """Return the 95 % score interval of a share `accuracy` (0 to 1) of `n` images.

    After Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22 (1927): unlike the
    usual plus and minus it stays within 0 and 1, and is of use for few images and for accuracies near 1.
    """
    if n <= 0:
        return 0.0, 1.0
    share = _Z * _Z / n
    centre = (accuracy + share / 2) / (1 + share)
    half = math.sqrt(accuracy * (1 - accuracy) * share + share * share / 4) / (1 + share)
    # At the ends the interval ends there, whatever the rounding.
    return 0.0 if accuracy <= 0 else max(centre - half, 0.0), 1.0 if accuracy >= 1 else min(centre + half, 1.0)


def interval_words(accuracy: float, n: int) -> str:
    """Return the interval and what it rests on: `95% CI 96.90 to 97.54%, n = 10,000`."""
    low, high = wilson(accuracy, n)
    return f"95% CI {100 * low:.2f} to {high:.2%}, n = {n:,}"


def accuracy_words(accuracy: float | None, n: int) -> str:
    """Return an accuracy as a result is told: `97.24% (95% CI 96.90 to 97.54%, n = 10,000)`.

    Without a number of images (0) there is no interval.
    """
    if accuracy is None:
        return "not given"
    return f"{accuracy:.2%} ({interval_words(accuracy, n)})" if n else f"{accuracy:.2%}"
