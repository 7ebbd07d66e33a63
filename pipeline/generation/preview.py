"""The first records of a plan, to be looked at before the rest is paid for."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from marginalia.pipeline.generation.generation_result import GenerationResult
from marginalia.schemas.manifest_json import Missing
from marginalia.schemas.terminal import PIPED_WIDTH, terminal_width, wrapped


@dataclass(frozen=True)
class Preview:
    """The first `slots` of a plan of `planned` slots and what became of them. `cost` is what they cost (None without
    prices); `missing` says why some have no text.

    `str()` shows each slot with its text or its rejected attempts, and the cost of the whole plan at that rate."""

    slots: list[dict[str, Any]]
    result: GenerationResult
    planned: int
    cost: float | None
    currency: str = ""
    missing: Sequence[Missing] = ()

    @property
    def data(self) -> dict[str, Any]:
        """The slots, each with its text and its rejected attempts, and the cost, for `--json`."""
        slots = []
        for slot_index, slot in enumerate(self.slots):
            accepted = self.result.accepted.get(slot_index)
            rejected = [
                {"attempt": attempt, "reason": reason, "detail": detail}
                for index, attempt, reason, detail in self.result.rejected
                if index == slot_index
            ]
            slots.append({**slot, "text": accepted.text if accepted is not None else None, "rejected": rejected})
        return {"planned": self.planned, "cost": self.cost, "currency": self.currency, "slots": slots}

    def __str__(self) -> str:
        blocks = [self._block(slot_index, slot) for slot_index, slot in enumerate(self.slots)]
        return "\n\n".join([*blocks, self._summary()])

    def _block(self, slot_index: int, slot: dict[str, Any]) -> str:
        attributes = [
            str(value) for name, value in slot.items() if name not in ("slot_id", "labels", "near_miss_of") and value
        ]
        near = f", like {slot['near_miss_of']}" if slot.get("near_miss_of") else ""
        lines = [
            wrapped(f"{slot['slot_id']}: {' + '.join(slot['labels']) or 'no label'}{near} ({', '.join(attributes)})")
        ]
        lines += [
            wrapped(f"    attempt {attempt} rejected: {reason}: {detail}")
            for index, attempt, reason, detail in self.result.rejected
            if index == slot_index
        ]
        accepted = self.result.accepted.get(slot_index)
        if accepted is None:
            lines.append("    no text")
        else:
            for line in accepted.text.split("\n"):
                width = min(PIPED_WIDTH, terminal_width() or PIPED_WIDTH)
                lines += textwrap.wrap(line, width, initial_indent="  > ", subsequent_indent="  > ")
        return "\n".join(lines)

    def _summary(self) -> str:
        result = self.result
        calls = result.asked_now + result.from_journal
        tokens = result.prompt_tokens + result.completion_tokens
        summary = f"{len(result.accepted)} of {len(self.slots)} accepted; {calls} answers, {result.from_journal} of "
        summary += f"them paid for earlier; {tokens:,} tokens"
        if self.cost is not None:
            all_slots = self.cost * self.planned / len(self.slots)
            summary += f", cost {self.cost:.4f} {self.currency}"
            summary += f"; all {self.planned:,} slots at that rate: {all_slots:.2f}"
        return wrapped(summary + (f"; stopped by the {result.stopped}" if result.stopped else ""))
