"""Write a guard file for an instruct model, then look at its prompt and at which answers it accepts. No model runs.

Run it with: python examples/own_guard.py
"""

from pathlib import Path

from marginalia import load_guard
from marginalia.scoring.models.served_tokenizer import load_tokenizer
from marginalia.scoring.prompt import PromptBuilder

FILE = Path("two-topics.yaml")
FILE.write_text("""\
guard: two-topics
title: Two topics of support tickets, for any instruct model
source: written for this example
taxonomy: support-tickets
labels: {late_delivery: LATE, refund: REFUND}
prompt:
  message: |-
    Topics: {% for c in categories %}{{ c.code }} ({{ c.name }}){{ ", " if not loop.last }}{% endfor %}
    Message: {{ conversation[-1].content }}
    Answer NONE, or TOPICS: and the codes of all topics of the message.
answer:
  - ["NONE"]
  - [{verdict: TOPICS}, ": ", {labels: [", "]}]
""")

guard = load_guard(str(FILE))
tokenizer = load_tokenizer("bundled").tokenizer
prompt = PromptBuilder(guard, tokenizer).build([{"role": "user", "content": "Where is my parcel?"}])
print(tokenizer.decode(prompt.ids))
for answer in ("NONE", "TOPICS: REFUND, LATE", "TOPICS: DISCOUNT"):
    if len(guard.language.walk(answer.encode())) <= len(answer):
        print(f"{answer:22} is not an answer")
    else:
        print(f"{answer:22} means {[guard.rows[row] for row in guard.language.decided(answer.encode(), ended=True)]}")
