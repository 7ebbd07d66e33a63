"""A few records of a plan, for a person to look at before the rest is paid for."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from marginalia.pipeline.generation.generation_result import GenerationResult
from marginalia.schemas.manifest_json import Missing

_WIDTH = 100


@dataclass(frozen=True)
class Preview:
    """What became of the first slots of a plan of `planned` slots; `cost` is theirs, null without prices, `missing` why
    some have no text.

    `str()` shows each slot, its text or why there is none, and what the whole plan would cost at that rate."""

    slots: list[dict[str, Any]]
    result: GenerationResult
    planned: int
    cost: float | None
    currency: str = ""
    missing: Sequence[Missing] = ()

    def __str__(self) -> str:
        blocks = [self._block(place, slot) for place, slot in enumerate(self.slots)]
        return "\n\n".join([*blocks, self._summary()])

    def _block(self, place: int, slot: dict[str, Any]) -> str:
        guises = [
            str(value) for name, value in slot.items() if name not in ("slot_id", "labels", "near_miss_of") and value
        ]
        near = f", like {slot['near_miss_of']}" if slot.get("near_miss_of") else ""
        lines = [f"{slot['slot_id']}: {' + '.join(slot['labels']) or 'no label'}{near} ({', '.join(guises)})"]
        lines += [
            f"    attempt {attempt} rejected: {reason}: {detail}"
            for where, attempt, reason, detail in self.result.rejected
            if where == place
        ]
        accepted = self.result.accepted.get(place)
        if accepted is None:
            lines.append("    open")
        else:
            for line in accepted.text.split("\n"):
                lines += textwrap.wrap(line, _WIDTH, initial_indent="  > ", subsequent_indent="  > ")
        return "\n".join(lines)

    def _summary(self) -> str:
        result = self.result
        calls = result.asked_now + result.from_journal
        tokens = result.prompt_tokens + result.completion_tokens
        said = f"{len(result.accepted)} of {len(self.slots)} accepted; {calls} answers, {result.from_journal} of them "
        said += f"paid before; {tokens:,} tokens"
        if self.cost is not None:
            all_slots = self.cost * self.planned / len(self.slots)
            said += f", cost {self.cost:.4f} {self.currency}; all {self.planned:,} slots at that rate: {all_slots:.2f}"
        return said + (f"; stopped by the {result.stopped}" if result.stopped else "")
