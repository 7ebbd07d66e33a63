"""Score texts with the bundled guard: the probability of each label, with certified bounds.

Run it with: python examples/score_texts.py
"""

from marginalia import Scorer

TEXTS = [
    "My parcel is a week late and I want my money back.",
    "The discount code WELCOME10 does not work at the checkout.",
    "Thank you, everything arrived in time.",
]

scorer = Scorer.load("bundled-guard", "support-tickets")
for text, scores in zip(TEXTS, scorer.score_many(TEXTS), strict=True):
    print(text)
    for label in sorted(scores, key=lambda label: -round(scores[label].probability, 3))[:3]:
        probability, lower, upper = scores[label]
        print(f"  {label:22} {probability:.3f}  (from {lower:.3f} to {upper:.3f})")
