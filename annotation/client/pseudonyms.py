"""Annotators are called A01, A02 … in every artifact. The key to these pseudonyms stays in the run folder, mode 600."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from marginalia.schemas.base_model import StrictModel
from marginalia.schemas.storage.files import read_model, write_json

KEY_FILE = "annotators.key.json"


class Person(StrictModel):
    """One annotator and their accounts."""

    pseudonym: str
    username: str
    user_ids: list[str] = Field(description="ids on the server; several when the account was deleted and created again")


class Key(StrictModel):
    """annotators.key.json: all annotators, in the order of their first answers."""

    people: list[Person] = Field(default=[])

    def known(self, user_id: str) -> Person | None:
        """The annotator with this user id, or None."""
        return next((person for person in self.people if user_id in person.user_ids), None)

    def with_user(self, user_id: str, username: str) -> Key:
        """A key that contains this user. A new account with a known username is the same person."""
        if self.known(user_id) is not None:
            return self
        for at, person in enumerate(self.people):
            if person.username == username:
                updated = person.model_copy(update={"user_ids": [*person.user_ids, user_id]})
                return Key(people=[*self.people[:at], updated, *self.people[at + 1 :]])
        new = Person(pseudonym=f"A{len(self.people) + 1:02}", username=username, user_ids=[user_id])
        return Key(people=[*self.people, new])

    def pseudonym(self, user_id: str) -> str:
        """The pseudonym of this user. Raises KeyError for an unknown user id."""
        person = self.known(user_id)
        if person is None:
            raise KeyError(user_id)
        return person.pseudonym


def read_key(path: Path) -> Key:
    """The key in `path`; an empty one when the file does not exist."""
    return read_model(path, Key, made_by="the pull stage; restore it from a backup") if path.exists() else Key()


def write_key(path: Path, key: Key) -> None:
    """Writes the key, mode 600."""
    write_json(path, key.model_dump(), mode=0o600)
