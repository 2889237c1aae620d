"""What banding finds: the probability that two documents share a band, as a function of their similarity."""

from __future__ import annotations


def band_probability(jaccard: float, bands: int, rows: int) -> float:
    """Probability that two documents of this Jaccard similarity agree in a whole band: 1 − (1 − s^rows)^bands.

    Leskovec, Rajaraman, Ullman: Mining of Massive Datasets, section 3.4.2.
    """
    return 1 - (1 - jaccard**rows) ** bands


def similarity_at(probability: float, bands: int, rows: int) -> float:
    """The Jaccard similarity at which `band_probability` is `probability`."""
    return float((1 - (1 - probability) ** (1 / bands)) ** (1 / rows))


def changed_words(jaccard: float, n_grams: int) -> float:
    """Share of a long text's words to change, each by itself, for two copies to have this Jaccard similarity.

    Each change costs `n_grams` shingles on either side: s = (1 − nx) / (1 + nx).
    """
    return (1 - jaccard) / (1 + jaccard) / n_grams


def plot(bands: int, rows: int, width: int = 51, height: int = 11) -> str:
    """The curve in text: similarity from 0 to 1 to the right, probability from 0 to 1 upwards."""
    heights = [round(band_probability(x / (width - 1), bands, rows) * (height - 1)) for x in range(width)]
    lines = []
    for level in range(height - 1, -1, -1):
        # A steep part of the curve is drawn as a vertical stroke, not as a gap.
        dots = "".join(
            "•" if at == level or (x > 0 and heights[x - 1] < level < at) else " " for x, at in enumerate(heights)
        )
        label = f"{level / (height - 1):.1f}" if level % 5 == 0 else ""
        lines.append(f"{label:>4} │{dots.rstrip()}")
    lines.append(f"     └{'─' * width}")
    marks = [" "] * (width + 6)
    for tenth in range(0, 11, 2):
        at = 6 + round(tenth / 10 * (width - 1)) - 1
        marks[at : at + 3] = f"{tenth / 10:.1f}"
    lines.append("".join(marks).rstrip() + "  Jaccard similarity")
    return "\n".join(lines)
