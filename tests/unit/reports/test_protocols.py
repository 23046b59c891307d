"""Like with like: which runs may be compared, and how a difference is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from zephyr_bench import catalogue
from zephyr_bench.benchmarks import open_benchmark
from zephyr_bench.errors import UserError
from zephyr_bench.reports.protocols import TOLD_HERE, Alike, check_alike, check_allowed, compared_fields
from zephyr_bench.store import RunInfo
from zephyr_bench.yaml_file import load_yaml

JUDGED = {"questions": ["x", "y"], "temperature": {"math": 0.0, "other": 0.7}, "references": "gpt-4", "limit": None}


def run(id: str = "one", protocol: Mapping[str, Any] | None = None, **changed: Any) -> RunInfo:
    known = RunInfo(
        id=id,
        benchmark="mt-bench",
        model="m",
        model_fingerprint="sha256:m",
        engine_fingerprint="sha256:e",
        judge="gpt-4",
        judge_fingerprint="sha256:11112222aaaa",
        status="complete",
        created="2026-11-01T00:00:00.000000Z",
        finished=None,
        protocol=JUDGED if protocol is None else protocol,
        version="1.2.0",
    )
    return replace(known, **changed)


def fields(base: RunInfo, candidate: RunInfo) -> dict[str, tuple[str, str]]:
    return {entry.field: (entry.base, entry.candidate) for entry in compared_fields(base, candidate).allowed}


def test_runs_that_were_made_alike_may_be_compared() -> None:
    assert check_alike(run("one"), run("two", model="n", model_fingerprint="sha256:n", seed=3)) == Alike()


@pytest.mark.parametrize(
    ("changed", "field", "told"),
    [
        ({"protocol": {**JUDGED, "temperature": {"math": 0.5, "other": 0.7}}}, "temperature.math", ("0.0", "0.5")),
        ({"protocol": {**JUDGED, "references": "other"}}, "references", ("gpt-4", "other")),
        ({"protocol": {**JUDGED, "questions": ["x", "z"]}}, "questions", ("x, y", "x, z")),
        ({"judge_fingerprint": "sha256:99998888bbbb"}, "judge", ("gpt-4 11112222", "gpt-4 99998888")),
        ({"version": "1.3.0"}, "version", ("1.2.0", "1.3.0")),
    ],
)
def test_a_field_that_differs_is_refused_by_its_name_with_both_values(
    changed: dict[str, Any], field: str, told: tuple[str, str]
) -> None:
    other = run("two", **changed)
    assert fields(run(), other) == {field: told}
    with pytest.raises(UserError) as caught:
        check_alike(run(), other)
    message = str(caught.value)
    assert f"{field} ({told[0]} against {told[1]})" in message
    assert f"--allow-different {field}" in message
    assert [str(entry) for entry in check_alike(run(), other, [field]).allowed] == [
        f"{field}: {told[0]} against {told[1]}"
    ]


def test_each_differing_field_has_to_be_allowed_and_a_name_allows_what_is_below_it() -> None:
    other = run("two", {**JUDGED, "temperature": {"math": 0.1, "other": 0.2}, "references": "other"})
    with pytest.raises(UserError, match=r"differ in references \(gpt-4 against other\); evaluate"):
        check_alike(run(), other, ["temperature"])
    allowed = check_alike(run(), other, ["temperature", "references"]).allowed
    assert [entry.field for entry in allowed] == ["references", "temperature.math", "temperature.other"]


def test_development_versions_of_one_release_are_equal() -> None:
    assert fields(run(version="1.2.0.dev3"), run("two", version="1.2.0.dev8+gabc")) == {}
    assert "version" in fields(run(version="1.2.0"), run("two", version="1.2.1"))


def test_a_part_of_the_questions_differs_by_its_limit_alone() -> None:
    other = run("two", {**JUDGED, "questions": ["x"], "limit": 1})
    assert fields(run(), other) == {"limit": ("none", "1")}
    assert "questions" in fields(run(), run("two", {**JUDGED, "questions": ["z"], "limit": 1}))


def test_some_tasks_differ_by_only_and_a_tasks_shots_by_its_name() -> None:
    arc, hella = {"task": "arc", "metric": "acc", "shots": 25}, {"task": "hella", "metric": "acc", "shots": 10}
    whole = {"tasks": [arc, hella], "data": {"a": "1", "h": "2"}, "only": None}
    part = {"tasks": [{**arc, "shots": 5}], "data": {"a": "1"}, "only": ["arc"]}
    assert fields(run(protocol=whole), run("two", part)) == {
        "only": ("none", '["arc"]'),
        "tasks.arc.shots": ("25", "5"),
    }


def test_what_an_older_run_of_ours_does_not_tell_is_what_was_usual_then() -> None:
    assert fields(run(), run("two", {**JUDGED, "judgments": 1})) == {}
    assert fields(run(), run("two", {**JUDGED, "judgments": 3})) == {"judgments": ("1", "3")}


def test_what_one_run_does_not_tell_counts_as_equal_and_is_listed() -> None:
    imported = run("two", {}, environment={"imported": "fastchat"}, judge_fingerprint="sha256:name", version="9.9.9")
    assert check_alike(run(), imported) == Alike(
        (), ("judge", "limit", "questions", "references", "temperature", "version")
    )


def test_a_field_that_one_run_of_ours_lacks_is_a_difference() -> None:
    without = run("two", {key: value for key, value in JUDGED.items() if key != "references"})
    assert fields(run(), without) == {"references": ("gpt-4", "not recorded")}
    plain = run("three", {key: value for key, value in JUDGED.items() if key != "temperature"})
    assert fields(plain, run()) == {
        "temperature.math": ("not recorded", "0.0"),
        "temperature.other": ("not recorded", "0.7"),
    }


def test_difficulties_that_were_not_at_hand_are_listed() -> None:
    alike = compared_fields(run(), run("two", {**JUDGED, "length_control": "abc"}))
    assert alike == Alike((), ("length_control",))


def test_answers_of_another_harness_that_were_judged_here_do_not_tell_how_they_were_made() -> None:
    judged = run("two", {"references": "gpt-4"}, note="imported")
    assert compared_fields(run(), judged) == Alike((), ("questions", "temperature"))


def lm_eval(id: str, **told: Any) -> RunInfo:
    return run(
        id, told, environment={"imported": "lm_eval"}, judge=None, judge_fingerprint=None, benchmark="open-llm-1"
    )


def test_what_an_import_states_as_none_is_told() -> None:
    none = lm_eval("one", system_instruction=None, gen_kwargs=None)
    other = lm_eval("two", system_instruction="Be kind.", gen_kwargs={"temperature": 1.0})
    expected = {"system_instruction": ("none", "Be kind."), "gen_kwargs.temperature": ("none", "1.0")}
    assert fields(none, other) == expected
    assert not {"system_instruction", "gen_kwargs"} & {*compared_fields(none, other).unknown}
    ours = run("ours", {}, judge=None, judge_fingerprint=None, benchmark="open-llm-1")
    assert fields(ours, other) == expected, "a run of ours has neither"
    assert {"system_instruction", "gen_kwargs"} < {*compared_fields(lm_eval("old"), other).unknown}


def test_generation_settings_of_an_import_are_told_whole() -> None:
    both = lm_eval("one", gen_kwargs={"temperature": 1.0, "top_p": 0.9})
    assert fields(both, lm_eval("two", gen_kwargs={"temperature": 1.0})) == {
        "gen_kwargs.top_p": ("0.9", "not recorded")
    }


@pytest.mark.parametrize("hashes", [(None, None), (None, "ab"), ("ab", None)])
def test_data_straight_from_the_hub_is_not_known(hashes: tuple[str | None, str | None]) -> None:
    runs = [run(name, {**JUDGED, "data": {"arc": value}}) for name, value in zip("ab", hashes, strict=True)]
    assert compared_fields(*runs) == Alike((), ("data.arc",))


def test_tasks_left_out_are_only_told_by_only_though_their_data_came_from_the_hub() -> None:
    whole = run("one", {"data": {"a": "1", "h": None}, "only": None})
    assert compared_fields(whole, run("two", {"data": {"a": "1"}, "only": ["a"]})).unknown == ()


@pytest.mark.parametrize("absent", [(0, 1), (1, 0), (1, 1)])
def test_an_instruction_without_an_answer_is_noted_and_not_refused(absent: tuple[int, int]) -> None:
    baseline = {"name": "gpt4", "outputs": "sha256:all"}
    told = [
        {**JUDGED, "baseline": {**baseline, "outputs": f"sha256:{name}"}, **({"not_answered": n} if n else {})}
        for name, n in zip("ab", absent, strict=True)
    ]
    alike = check_alike(run("one", told[0]), run("two", told[1]))
    assert alike == Alike((), (), (f"instructions without an answer: {absent[0]} against {absent[1]}",))
    other = {**told[1], "baseline": {"name": "davinci", "outputs": "sha256:c"}}
    assert set(fields(run("one", told[0]), run("two", other))) == {"baseline.name"}
    told[0].pop("not_answered", None)
    told[1].pop("not_answered", None)
    assert "baseline.outputs" in fields(run("one", told[0]), run("two", told[1]))


def test_a_name_to_allow_that_is_no_field_is_refused() -> None:
    runs = [run(), run("two", {"temperature": {"math": 0.1}, "fewshot_seed": 1})]
    check_allowed(runs, ["temperature", "temperature.math", "fewshot_seed", "judge", "version", "judgments"])
    with pytest.raises(UserError, match=r"--allow-different temperatur: .* Did you mean temperature"):
        check_allowed(runs, ["temperatur"])


def test_a_models_name_writes_no_line_of_its_own() -> None:
    with pytest.raises(UserError) as caught:
        check_alike(run(model="ev\n::error::pwn"), run("two", {**JUDGED, "references": "a\nb"}))
    assert "\n" not in str(caught.value)


def test_of_imports_those_tasks_compare_that_both_have() -> None:
    arc, hella = {"task": "arc", "metric": "acc", "shots": 25}, {"task": "hella", "metric": "acc"}
    told: dict[str, Any] = {
        "environment": {"imported": "lm_eval"},
        "judge": None,
        "judge_fingerprint": None,
        "benchmark": "open-llm-1",
    }
    both = run(protocol={"tasks": [arc, hella], "only": ["arc", "hella"]}, **told)
    one = run("two", {"tasks": [arc], "only": ["arc"]}, **told)
    assert fields(both, one) == {}
    assert fields(both, run("two", {"tasks": [{**arc, "shots": 5}], "only": ["arc"]}, **told)) == {
        "tasks.arc.shots": ("25", "5")
    }


def test_what_neither_import_tells_is_listed_too() -> None:
    imports = [run(name, {}, environment={"imported": "fastchat"}) for name in ("one", "two")]
    unknown = check_alike(imports[0], imports[1]).unknown
    assert set(TOLD_HERE["mt_bench"]) < set(unknown)
    assert {"judge", "version"} < set(unknown)


def test_imports_by_judges_of_other_names_are_refused() -> None:
    imported: dict[str, Any] = {"environment": {"imported": "fastchat"}}
    with pytest.raises(UserError, match=r"differ in judge \(gpt-4 against claude\)"):
        check_alike(run(**imported), run("two", judge="claude", judge_fingerprint="sha256:c", **imported))


@pytest.mark.parametrize("name", ["mt-bench-mini", "mt-bench", "alpaca-eval-mini", "open-llm-mini"])
def test_fields_that_an_import_may_lack_are_those_that_our_runs_tell(name: str) -> None:
    kind = load_yaml(catalogue.find("benchmark", name))[0]["kind"]
    told = {**open_benchmark(name).protocol(None), "limit": None}
    assert set(TOLD_HERE[kind]) == set(told) - {"length_control"}


def test_a_run_has_one_fingerprint_for_how_it_was_made() -> None:
    assert run().protocol_fingerprint == run("two", model="n", seed=4, version="1.2.0.dev1").protocol_fingerprint
    assert run().protocol_fingerprint != run(judge_fingerprint="sha256:x").protocol_fingerprint
    assert run().protocol_fingerprint != run(version="1.3.0").protocol_fingerprint
    assert run().protocol_fingerprint != run(protocol={**JUDGED, "limit": 3}).protocol_fingerprint


@pytest.mark.parametrize(
    "told",
    [{"judgments": 1}, {"order": "both"}, {"drift": {"of": "x"}}, {"sequential": {"seed": 1}}, {"spread": False}],
)
def test_what_is_meant_anyway_and_what_a_gate_notes_do_not_change_it(told: dict[str, Any]) -> None:
    assert run().protocol_fingerprint == run(protocol={**JUDGED, **told}).protocol_fingerprint


def test_a_difference_that_is_refused_changes_it() -> None:
    assert run().protocol_fingerprint != run(protocol={**JUDGED, "judgments": 3}).protocol_fingerprint
