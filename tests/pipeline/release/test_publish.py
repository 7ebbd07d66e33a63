"""publish with the real huggingface_hub client, against a local server with the Hub's API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from marginalia.pipeline.core.run import Run, open_run
from marginalia.pipeline.core.stage_runner import StageRun, run_stage
from marginalia.pipeline.release import hub_repository
from marginalia.pipeline.release.publish_stage import STAGE, describe, stage
from marginalia.pipeline.release.release_stage import STAGE as RELEASE
from marginalia.schemas.errors import ArtifactError, InputError, MarginaliaError, ServiceError
from marginalia.schemas.storage.files import write_frame, write_json
from marginalia.schemas.tables import GoldRecord
from tests.hub_server import TOKEN, HubServer
from tests.lying_proxy import FAULTS, LyingProxy
from tests.pipeline.release.labelled_run import GOLD, gold_row, make_run

REPO = "lab/tickets"


@pytest.fixture
def server() -> Iterator[HubServer]:
    with HubServer().running() as running:
        yield running


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_repository, "PAUSE", 0.01)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


def released(tmp_path: Path, server: HubServer | LyingProxy, *, extra: str = "", timeout: float = 5.0) -> Run:
    config = (
        f"release:\n  repo_id: {REPO}\n  license: cc-by-4.0\n  endpoint: {server.url}\n  timeout: {timeout}\n{extra}"
    )
    run = make_run(tmp_path, config=config)
    run_stage(RELEASE, run)
    return run


def publish(run: Run, *, push: bool = True) -> StageRun:
    return run_stage(stage(push=push), run)


def files_of(folder: Path) -> dict[str, bytes]:
    return {item.relative_to(folder).as_posix(): item.read_bytes() for item in folder.rglob("*") if item.is_file()}


def test_a_dry_run_lists_every_file_and_makes_no_call(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server)
    facts = run_stage(STAGE, run).manifest.facts
    assert server.calls == []
    assert {file["path"]: file["bytes"] for file in facts["files"]} == {
        path: len(data) for path, data in files_of(run.path("release")).items()
    }
    text = describe(facts)
    assert "dry run: nothing was uploaded" in text
    assert f"{REPO} (private, access manual, licence cc-by-4.0)" in text
    assert "data/gold/test.parquet" in text


def test_a_push_makes_a_private_gated_repository_with_exactly_the_folder(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server)
    done = publish(run)
    repository = server.repositories[REPO]
    assert (repository.private, repository.gated) == (True, "manual")
    assert repository.commits[-1].files == {".gitattributes": b"", **files_of(run.path("release"))}
    assert server.authorizations == {f"Bearer {TOKEN}"}
    entry = done.manifest.facts["published"][0]
    assert entry["commit"] == repository.commits[-1].id
    assert describe(done.manifest.facts).splitlines()[0] == f"published {REPO}: version 1, {entry['url']}"
    # access is restricted before the files are uploaded
    assert server.calls.index(("PUT", "settings")) < server.calls.index(("POST", "commit"))


def test_what_was_pushed_loads_from_the_hub(tmp_path: Path, server: HubServer) -> None:
    publish(released(tmp_path, server))
    script = (
        "import json\n"
        "from datasets import load_dataset\n"
        f"data = load_dataset('{REPO}', 'gold')\n"
        "print(json.dumps({split: data[split]['labels'][:] for split in data}))\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hub"), "HF_TOKEN": TOKEN}
    environment["HF_HUB_DISABLE_XET"] = "1"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "calibration": [["late_delivery"], ["late_delivery", "refund"]],
        "test": [[], ["invoice"]],
    }


def test_a_second_push_of_the_same_release_commits_nothing(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server)
    publish(run)
    again = publish(run)
    assert len(server.repositories[REPO].commits) == 2
    assert again.manifest.facts["attempts"] == 0
    assert len(again.manifest.facts["published"]) == 1


def test_a_dry_run_after_a_push_keeps_the_list_of_published_versions(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server)
    pushed = publish(run).manifest.facts["published"]
    assert publish(run, push=False).manifest.facts["published"] == pushed


def test_files_that_a_second_release_no_longer_has_are_removed(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server)
    publish(run)
    run.path("scores/policy-guard.parquet").unlink()
    changed = [*GOLD[:3], gold_row("r8", ["refund"], "test")]
    write_frame(run.path("gold.parquet"), GoldRecord.frame(changed), GoldRecord)
    run_stage(RELEASE, run)
    publish(run)
    files = server.repositories[REPO].commits[-1].files
    assert "data/scores/policy-guard.parquet" not in files
    assert b"`r8`" in files["CHANGELOG.md"]
    assert [commit.title.split(" (")[0] for commit in server.repositories[REPO].commits[1:]] == [
        "Version 1",
        "Version 2",
    ]


@pytest.mark.parametrize("fault", ["hang", "lost"])
def test_a_commit_whose_answer_is_lost_is_found_and_not_made_twice(
    tmp_path: Path, server: HubServer, fault: str
) -> None:
    run = released(tmp_path, server, timeout=1)
    server.faults["commit"] = [fault]
    done = publish(run)
    assert server.count("commit") == 1
    assert done.manifest.facts["published"][0]["commit"] == server.repositories[REPO].commits[-1].id
    assert len(server.repositories[REPO].commits) == 2


@pytest.mark.parametrize("fault", [500, 502, 503, "late"])
def test_a_commit_that_was_not_made_is_sent_again(tmp_path: Path, server: HubServer, fault: int | str) -> None:
    run = released(tmp_path, server, timeout=1)
    server.faults["commit"] = [fault]
    done = publish(run)
    assert (server.count("commit"), done.manifest.facts["attempts"]) == (2, 2)
    assert len(server.repositories[REPO].commits) == 2


def test_a_failing_call_never_publishes_a_part_or_twice(tmp_path: Path) -> None:
    """The k-th call fails, for every k, in different ways. Publishing again ends with one commit of all files."""
    kinds = [name for name in FAULTS if name not in ("hang", "429")]
    k, met = 0, 1
    while met:
        k += 1
        with HubServer().running() as hub_server, LyingProxy(hub_server.url, at={k: kinds[k % len(kinds)]}) as proxy:
            run = released(tmp_path / str(k), proxy)
            with suppress(ServiceError):
                publish(run)
            met, proxy.at = proxy.faults.total(), {}
            publish(run)
            commits = hub_server.repositories[REPO].commits
            assert len(commits) == 2, k
            assert commits[-1].files == {".gitattributes": b"", **files_of(run.path("release"))}
    assert k > 6


def test_after_three_failures_it_says_that_nothing_was_published(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server)
    server.faults["commit"] = [500, 500, 500]
    with pytest.raises(ServiceError) as caught:
        publish(run)
    assert str(caught.value) == (
        "the Hub did not accept the commit in 3 attempts: HTTP 500 (nothing was published; try again later)"
    )
    assert len(server.repositories[REPO].commits) == 1


def test_an_unknown_outcome_is_reported_as_unknown(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server, timeout=1)
    server.faults = {"commit": ["hang"], "commits": [403]}
    with pytest.raises(ServiceError) as caught:
        publish(run)
    assert "it may exist: check before you publish again" in str(caught.value)


def test_a_server_error_before_the_commit_is_retried(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server)
    server.faults["preupload"] = [503, 500]
    publish(run)
    assert (server.count("preupload"), server.count("commit")) == (3, 1)


def test_a_concurrent_commit_is_not_overwritten(
    tmp_path: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = released(tmp_path, server)
    server.create(REPO)
    server.repositories[REPO].gated = "manual"
    original = hub_repository.HubRepository._obsolete

    def with_concurrent_commit(self: hub_repository.HubRepository, folder: Path, parent: str) -> list[str]:
        obsolete = original(self, folder, parent)
        server.repositories[REPO].add("a colleague's", {"README.md": b"mine"})
        return obsolete

    monkeypatch.setattr(hub_repository.HubRepository, "_obsolete", with_concurrent_commit)
    with pytest.raises(ServiceError, match="was changed by somebody else at the same time"):
        publish(run)
    assert server.repositories[REPO].commits[-1].files == {"README.md": b"mine"}


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        (401, "the token in HF_TOKEN is not valid; create one at {url}/settings/tokens"),
        (403, "the token in HF_TOKEN may not write there; give it write access to lab/tickets"),
        (404, "check release.repo_id: owner/name, where the token belongs to the owner"),
    ],
)
def test_a_refusal_names_the_setting_after_one_call(
    tmp_path: Path, server: HubServer, status: int, remedy: str
) -> None:
    run = released(tmp_path, server)
    server.faults["create"] = [status]
    with pytest.raises(ServiceError) as caught:
        publish(run)
    assert str(caught.value) == (
        f"the Hub refused to create the repository ({REPO}): HTTP {status} set by the test "
        f"({remedy.format(url=server.url)})"
    )
    assert server.count("create") == 1
    assert server.count("commit") == 0


def test_a_wrong_token_is_refused_and_never_shown(
    tmp_path: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = released(tmp_path, server)
    monkeypatch.setenv("HF_TOKEN", "hf_canaryTokenThatMustNotLeak")
    with pytest.raises(ServiceError) as caught:
        publish(run)
    assert "HTTP 401" in str(caught.value)
    shown = "".join(traceback.format_exception(caught.value)) + str(capsys.readouterr())
    written = "".join(path.read_text(encoding="utf-8") for path in run.path("manifests").iterdir())
    assert "canaryToken" not in shown + written


def test_without_a_token_no_call_is_made(tmp_path: Path, server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    run = released(tmp_path, server)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(InputError, match="the environment variable HF_TOKEN is not set"):
        publish(run)
    assert server.calls == []


def test_a_hub_that_does_not_answer_is_named(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server)
    text = (run.folder / "config.yaml").read_text(encoding="utf-8").replace(server.url, "http://127.0.0.1:9")
    (run.folder / "config.yaml").write_text(text, encoding="utf-8")
    run = open_run(run.folder)
    run_stage(RELEASE, run)
    with pytest.raises(ServiceError, match=r"cannot look for the repository at http://127\.0\.0\.1:9"):
        publish(run)


def test_a_public_repository_is_not_used_for_a_private_release(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server)
    server.create(REPO, private=False)
    with pytest.raises(InputError, match="exists and is public"):
        publish(run)
    assert server.count("commit") == 0


def test_a_repository_with_other_files_is_not_changed(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server)
    server.create(REPO, files={"train.csv": b"a,b\n"})
    with pytest.raises(InputError, match=r"contains files that are not a Marginalia release: train\.csv"):
        publish(run)
    assert server.count("commit") == 0


def refusal(run: Run, *, push: bool = True) -> MarginaliaError:
    with pytest.raises(MarginaliaError) as caught:
        publish(run, push=push)
    assert caught.value.exit_code == 2
    return caught.value


def test_without_licence_or_repository_a_push_is_refused_and_a_dry_run_says_so(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run_stage(RELEASE, run)
    assert str(refusal(run)) == (
        f"{run.folder}/config.yaml: release.repo_id is not set; release.license is not set (publish needs both)"
    )
    text = describe(publish(run, push=False).manifest.facts)
    assert "--push would be refused: release.license is not set" in text


@pytest.mark.parametrize("push", [True, False])
def test_a_release_that_was_changed_by_hand_is_refused(tmp_path: Path, server: HubServer, push: bool) -> None:
    run = released(tmp_path, server)
    with (run.path("release") / "README.md").open("a", encoding="utf-8") as card:
        card.write("one more line")
    with pytest.raises(ArtifactError):
        publish(run, push=push)
    assert server.calls == []


def test_a_release_older_than_its_gold_set_is_refused(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server)
    write_frame(run.path("gold.parquet"), GoldRecord.frame(GOLD[:3]), GoldRecord)
    assert str(refusal(run)) == (
        f"{run.path('release')}: the release is out of date: gold.parquet changed "
        f"(marginalia release --run {run.folder})"
    )


def test_private_data_in_a_record_is_refused_until_a_person_has_looked(tmp_path: Path, server: HubServer) -> None:
    messages = [{"role": "user", "content": "Write to jane@corp.co or call +44 20 7946 1234"}]
    run = released(tmp_path, server)
    gold = [*GOLD, gold_row("r9", [], "test", messages=messages)]
    write_frame(run.path("gold.parquet"), GoldRecord.frame(gold), GoldRecord)
    run_stage(RELEASE, run)
    text = str(refusal(run, push=False))
    assert "data/gold/test.parquet: possible private data in 1 record: 'r9' (e-mail address, phone number)" in text
    assert "jane" not in text
    config = (run.folder / "config.yaml").read_text(encoding="utf-8") + "  reviewed_records: [r9]\n"
    (run.folder / "config.yaml").write_text(config, encoding="utf-8")
    run = open_run(run.folder)
    run_stage(RELEASE, run)
    publish(run)
    assert len(server.repositories[REPO].commits) == 2


@pytest.mark.parametrize(
    ("description", "log_in"),
    [("made with the help of zfeather", "zfeather"), ("ask z.feather-stone about it", "z.feather-stone")],
)
def test_the_name_of_an_annotator_on_the_card_is_refused(
    tmp_path: Path, server: HubServer, description: str, log_in: str
) -> None:
    extra = f"  description: {description}\nannotation:\n  team: [{log_in}]\n"
    run = released(tmp_path, server, extra=extra)
    assert str(refusal(run)) == (
        "README.md contains the name of an annotator "
        "(a release must not contain names: remove it from the config, then release again)"
    )


def test_names_in_the_pseudonym_key_are_refused(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server, extra="  contact: write to q.featherstone\n")
    person = {"pseudonym": "A01", "username": "q.featherstone", "user_ids": ["b1"]}
    write_json(run.path("annotators.key.json"), {"people": [person]})
    assert "README.md contains the name of an annotator" in str(refusal(run))


def test_a_log_in_that_is_an_ordinary_word_refuses_nothing(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server, extra="annotation:\n  team: [annotator, test, late, Marginalia]\n")
    publish(run)
    assert len(server.repositories[REPO].commits) == 2


def test_imported_answers_of_numbered_people_can_be_published(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server)
    people = [{"pseudonym": "A01", "username": number, "user_ids": [number]} for number in ("1", "2026")]
    write_json(run.path("annotators.key.json"), {"people": people})
    publish(run)
    assert len(server.repositories[REPO].commits) == 2


def test_a_distinctive_log_in_in_a_text_is_refused(tmp_path: Path, server: HubServer) -> None:
    run = released(tmp_path, server, extra="annotation:\n  team: [jane.doe42]\n")
    messages = [{"role": "user", "content": "Hello Jane.Doe42, where is my parcel?"}]
    write_frame(run.path("gold.parquet"), GoldRecord.frame([gold_row("r1", [], "test", messages=messages)]), GoldRecord)
    run_stage(RELEASE, run)
    assert str(refusal(run)) == (
        "data/gold/test.parquet: record 'r1' contains the name of an annotator (a release must not contain names)"
    )
