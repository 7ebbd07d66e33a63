"""How many errors remain when the least certain records are sent to a human reviewer."""

from __future__ import annotations

import numpy as np

from marginalia.schemas.evaluation_json import ReviewPoint
from marginalia.scoring.measures.cell_means import judged_or_all
from marginalia.scoring.measures.intervals import Array, Flags

SHARES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


def review_points(truth: Flags, predicted: Flags, calibrated: Array, judged: Flags | None = None) -> list[ReviewPoint]:
    """Risk against coverage, from arrays of (n, L). The records with the most expected wrong labels, Σ min(p, 1 - p),
    are reviewed first; ties keep the order of records.

    All labels decide the order, as for records without gold; errors are counted among the `judged` cells (None: all).
    Reviewers are assumed to give the gold labels."""
    judged = judged_or_all(truth, judged)
    n = len(truth)
    if n == 0:
        return []
    order = np.argsort(-np.minimum(calibrated, 1 - calibrated).sum(1), kind="stable")
    wrong, cells = ((truth != predicted) & judged)[order], judged.sum(1)[order]
    points = []
    for share in SHARES:
        kept = wrong[int(share * n) :]
        kept_cells = int(cells[int(share * n) :].sum())
        errors = int(kept.any(1).sum())
        points.append(
            ReviewPoint(
                share_reviewed=1 - len(kept) / n,
                n_kept=len(kept),
                hamming_loss=float(kept.sum() / kept_cells) if kept_cells else None,
                subset_error=errors / len(kept) if len(kept) else None,
                subset_error_overall=errors / n,
            )
        )
    return points
