"""croissant.json: the properties that Croissant 1.1 and RAI 1.0 define, the files' hashes and the tables' columns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from marginalia.pipeline.core.run import Run
from marginalia.pipeline.core.stage_runner import run_stage
from marginalia.pipeline.release.publish_stage import stage
from marginalia.pipeline.release.release_checks import refuse_leaks
from marginalia.pipeline.release.release_stage import STAGE
from marginalia.pipeline.verification.check_results import Verification
from marginalia.pipeline.verification.release_contents import check_release
from marginalia.pipeline.verification.run_contents import read_contents
from marginalia.schemas.errors import InputError
from marginalia.schemas.storage.files import sha256
from tests.pipeline.partly_judged import PARTLY
from tests.pipeline.release.labelled_run import make_run

FILLED_IN = """release:
  repo_id: lab/tickets
  license: cc-by-4.0
  authors: [The Lab]
  contact: data@example.org
  date: 2026-11-28
  datasheet:
    about_annotators: Three clerks of the shop.
    personal_data: None.
"""
# schema.org's properties of a dataset that Croissant names: expected type here, MANY as list
DATASET: dict[str, type] = {
    "name": str,
    "description": str,
    "license": str,
    "url": str,
    "creator": list,
    "datePublished": str,
    "version": str,
    "inLanguage": list,
    "keywords": list,
    "citeAs": str,
    "isLiveDataset": bool,
    "conformsTo": list,
    "distribution": list,
    "recordSet": list,
}
REQUIRED = {"@context", "@type", "name", "description", "license", "url", "creator", "datePublished", "conformsTo"}
# the properties of RAI 1.0 with their cardinality: ONE as str, MANY as list
RESPONSIBLE_AI: dict[str, type] = {
    "rai:dataCollection": str,
    "rai:dataCollectionType": list,
    "rai:dataCollectionMissingData": str,
    "rai:dataCollectionRawData": str,
    "rai:dataCollectionTimeframe": list,
    "rai:dataImputationProtocol": str,
    "rai:dataManipulationProtocol": str,
    "rai:dataPreprocessingProtocol": list,
    "rai:dataAnnotationProtocol": str,
    "rai:dataAnnotationPlatform": list,
    "rai:dataAnnotationAnalysis": list,
    "rai:dataReleaseMaintenancePlan": list,
    "rai:personalSensitiveInformation": list,
    "rai:dataSocialImpact": str,
    "rai:dataBiases": list,
    "rai:dataLimitations": list,
    "rai:dataUseCases": list,
    "rai:annotationsPerItem": str,
    "rai:annotatorDemographics": list,
    "rai:machineAnnotationTools": list,
}
DATA_TYPES = {"sc:Text", "sc:Integer", "sc:Float", "sc:Boolean"}


def released(run: Run) -> dict[str, Any]:
    run_stage(STAGE, run)
    document = json.loads((run.path("release") / "croissant.json").read_text(encoding="utf-8"))
    assert isinstance(document, dict)
    return document


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    """All objects of a document."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from nodes(item)
    elif isinstance(value, list):
        for item in value:
            yield from nodes(item)


def leaves(field: dict[str, Any]) -> list[dict[str, Any]]:
    return [leaf for part in field["subField"] for leaf in leaves(part)] if "subField" in field else [field]


def test_it_has_the_required_properties_and_no_others_than_the_formats_define(tmp_path: Path) -> None:
    document = released(make_run(tmp_path, config=FILLED_IN))
    assert document["@type"] == "sc:Dataset"
    assert document.keys() >= {*REQUIRED, "distribution", "recordSet"}
    types = {**DATASET, **RESPONSIBLE_AI}
    properties = {name: value for name, value in document.items() if not name.startswith("@")}
    assert {name: type(value) for name, value in properties.items()} == {name: types[name] for name in properties}
    assert document["conformsTo"] == ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"]
    assert document["license"] == "https://spdx.org/licenses/CC-BY-4.0.html"
    assert document["url"] == "https://huggingface.co/datasets/lab/tickets"
    assert document["creator"] == [{"@type": "sc:Organization", "name": "The Lab"}]
    assert (document["datePublished"], document["version"]) == ("2026-11-28", "1.0.0")
    assert document["rai:annotatorDemographics"] == ["Three clerks of the shop."]
    assert document["rai:personalSensitiveInformation"] == ["None."]
    assert document["rai:dataAnnotationPlatform"] == ["Argilla"]
    for name in properties.keys() & RESPONSIBLE_AI.keys():
        value = document[name]
        assert all(isinstance(item, str) and item for item in (value if isinstance(value, list) else [value])), name


def test_all_terms_of_croissant_are_in_the_context(tmp_path: Path) -> None:
    document = released(make_run(tmp_path, config=FILLED_IN))
    context = document["@context"]
    terms = {
        *("conformsTo", "citeAs", "isLiveDataset", "recordSet", "field", "key", "dataType", "isArray", "arrayShape"),
        *("source", "fileObject", "extract", "column", "transform", "jsonPath", "subField"),
    }
    schema_org = {
        *("name", "description", "license", "url", "creator", "datePublished", "version", "inLanguage", "keywords"),
        *("distribution", "contentUrl", "contentSize", "encodingFormat", "sha256"),
    }
    del document["@context"]
    used = {name for node in nodes(document) for name in node if not name.startswith(("@", "rai:"))}
    assert used == terms | schema_org
    assert terms <= context.keys()
    assert context["@vocab"] == "https://schema.org/"
    assert context["rai"] == "http://mlcommons.org/croissant/RAI/"
    assert context["dataType"] == {"@id": "cr:dataType", "@type": "@vocab"}
    assert {context[term] for term in terms - {"dataType", "conformsTo"}} == {
        f"cr:{term}" for term in terms - {"dataType", "conformsTo"}
    }


@pytest.mark.parametrize("gold", [None, PARTLY], ids=["judged", "partly judged"])
def test_files_have_their_hashes_and_record_sets_the_columns_of_the_files(
    tmp_path: Path, gold: list[dict[str, Any]] | None
) -> None:
    run = make_run(tmp_path, gold=gold) if gold else make_run(tmp_path)
    document = released(run)
    folder = run.path("release")
    files = {file["@id"]: file for file in document["distribution"]}
    assert files.keys() == {path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")}
    for path, file in files.items():
        assert file["@type"] == "cr:FileObject"
        assert file["contentUrl"] == file["name"] == path
        assert file["sha256"] == sha256(folder / path)
        assert file["contentSize"] == f"{(folder / path).stat().st_size} B"
        assert file["encodingFormat"] == "application/x-parquet"
    columns: dict[str, list[str]] = {}
    for records in document["recordSet"]:
        assert records["@type"] == "cr:RecordSet"
        for field in records["field"]:
            assert field["@type"] == "cr:Field"
            for leaf in leaves(field):
                assert leaf["dataType"] in DATA_TYPES
                (source,) = {leaf["source"]["fileObject"]["@id"]}
                columns.setdefault(source, [])
                if leaf["source"]["extract"]["column"] not in columns[source]:
                    columns[source].append(leaf["source"]["extract"]["column"])
    assert columns == {path: pq.read_schema(folder / path).names for path in files}
    assert len(document["recordSet"]) == len(files)


def test_ids_are_unique_and_every_reference_exists(tmp_path: Path) -> None:
    document = released(make_run(tmp_path))
    defined = [node["@id"] for node in nodes(document) if "@type" in node and "@id" in node and "name" in node]
    referenced = {node["@id"] for node in nodes(document) if node.keys() == {"@id"}}
    assert len(defined) == len(set(defined))
    assert referenced <= set(defined)
    keys = {records["@id"]: [key["@id"] for key in records["key"]] for records in document["recordSet"]}
    assert keys["gold/test"] == ["gold/test/id"]
    assert keys["annotations/train"] == [f"annotations/train/{name}" for name in ("record_id", "annotator", "round")]


def test_nested_columns_are_described_part_by_part(tmp_path: Path) -> None:
    document = released(make_run(tmp_path))
    test = next(records for records in document["recordSet"] if records["@id"] == "gold/test")
    fields = {field["@id"]: field for field in test["field"]}
    messages = fields["gold/test/messages"]
    assert (messages["isArray"], messages["arrayShape"]) == (True, "-1")
    assert [(part["@id"], part["source"]["transform"]) for part in messages["subField"]] == [
        ("gold/test/messages/role", {"jsonPath": "[*].role"}),
        ("gold/test/messages/content", {"jsonPath": "[*].content"}),
    ]
    assert (fields["gold/test/labels"]["isArray"], fields["gold/test/labels"]["dataType"]) == (True, "sc:Text")
    assert fields["gold/test/agreement"]["dataType"] == "sc:Float"
    assert fields["gold/test/adjudicated"]["dataType"] == "sc:Boolean"
    assert fields["gold/test/n_annotators"]["dataType"] == "sc:Integer"


def test_equal_releases_have_equal_bytes(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    released(run)
    path = run.path("release") / "croissant.json"
    before = path.read_bytes()
    run_stage(STAGE, run, force=True)
    assert path.read_bytes() == before


def test_what_the_config_does_not_give_is_absent(tmp_path: Path) -> None:
    document = released(make_run(tmp_path))
    assert REQUIRED - document.keys() == {"license", "url", "creator", "datePublished"}
    assert not {"rai:annotatorDemographics", "rai:personalSensitiveInformation"} & document.keys()


@pytest.mark.parametrize(
    ("config", "license_"),
    [
        ("license: my-licence", {"@type": "sc:CreativeWork", "name": "my-licence"}),
        ("license: other\n  license_link: https://x.example/terms", "https://x.example/terms"),
        ("license: apache-2.0", "https://spdx.org/licenses/Apache-2.0.html"),
    ],
)
def test_a_licence_is_an_address_or_a_named_work(tmp_path: Path, config: str, license_: Any) -> None:
    assert released(make_run(tmp_path, config=f"release:\n  {config}\n"))["license"] == license_


def test_files_of_a_published_data_set_have_their_address(tmp_path: Path) -> None:
    document = released(make_run(tmp_path, config=FILLED_IN))
    assert {file["contentUrl"] for file in document["distribution"]} == {
        f"https://huggingface.co/datasets/lab/tickets/resolve/main/{file['@id']}" for file in document["distribution"]
    }


def test_simulated_annotators_are_a_tool(tmp_path: Path) -> None:
    document = released(make_run(tmp_path, config="simulated: true\n"))
    assert document["rai:machineAnnotationTools"] == ["Marginalia's simulated annotators"]
    assert not {"rai:dataAnnotationPlatform", "rai:annotationsPerItem"} & document.keys()
    assert document["rai:dataLimitations"][0].startswith("The annotators are simulated.")


def test_it_is_uploaded_with_the_other_files(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    released(run)
    files = run_stage(stage(push=False), run).manifest.facts["files"]
    assert "croissant.json" in [file["path"] for file in files]


def release_problems(run: Run) -> list[str | None]:
    verification = Verification(str(run.folder))
    check_release(read_contents(run, {}, verification), verification)
    return [check.problem for check in verification.checks if check.stage == "release"]


def test_verify_compares_its_hashes_and_accepts_a_release_without_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    document = released(run)
    assert release_problems(run) == [None]
    path = run.path("release") / "croissant.json"
    document["distribution"][0]["sha256"] = "0" * 64
    document["distribution"][1]["@id"] = "data/elsewhere.parquet"
    path.write_text(json.dumps(document), encoding="utf-8")
    assert release_problems(run) == [
        "croissant.json does not list data/gold/calibration.parquet; croissant.json lists data/elsewhere.parquet, "
        "which does not exist; croissant.json has another hash for data/annotations/train.parquet"
    ]
    path.write_text("[]", encoding="utf-8")
    assert "not a Croissant description" in str(release_problems(run)[0])
    path.unlink()
    assert release_problems(run) == [None]


def test_a_release_without_it_is_the_previous_version_of_one_with_it(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    released(run)
    (run.path("release") / "croissant.json").unlink()
    released(run)
    history = json.loads((run.path("release") / "release.json").read_text(encoding="utf-8"))
    assert [version["version"] for version in history["versions"]] == [1]


def test_an_annotators_name_in_it_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    document = released(run)
    refuse_leaks(run.path("release"), ["zoe.k"], [])
    path = run.path("release") / "croissant.json"
    path.write_text(json.dumps({**document, "description": "Labelled by zoe.k."}), encoding="utf-8")
    with pytest.raises(InputError, match=r"croissant\.json contains the name of an annotator"):
        refuse_leaks(run.path("release"), ["zoe.k"], [])


def test_the_annotations_per_item_are_those_of_the_released_records(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    document = released(run)
    gold = pl.concat([pl.read_parquet(path) for path in (run.path("release") / "data/gold").glob("*.parquet")])
    low, high, mean = gold["n_annotators"].min(), gold["n_annotators"].max(), gold["n_annotators"].mean()
    assert document["rai:annotationsPerItem"] == f"{low} to {high} per record, {mean:.1f} on average"
