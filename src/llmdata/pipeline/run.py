"""A whole run: crawl, clean, tokenizer, tokens, model, each in its folder of the run, each only if it is not done."""

from __future__ import annotations

import glob
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from llmdata import config as recipes
from llmdata.engine.session import Session
from llmdata.engine.share import Again
from llmdata.errors import ChangedError, ConfigError
from llmdata.pipeline.clean import PassPlan, plan_clean, run_clean
from llmdata.pipeline.clean_config import CleanConfig
from llmdata.pipeline.recipe import Recipe
from llmdata.storage.lock import locked
from llmdata.storage.manifest import find, is_over, stamp_of
from llmdata.storage.place import Place

Stage = Literal["crawl", "clean", "tokenizer", "tokenize", "train"]
FOLDERS: dict[Stage, str] = {
    "crawl": "crawl",
    "clean": "clean",
    "tokenizer": "tokenizer",
    "tokenize": "tokens",
    "train": "model",
}
"""The stages in their order, and where each writes."""
ONE_PROCESS = ("tokenizer", "train")
RECIPE = "recipe.yaml"


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage of a run came to. `fresh` is False if all of it had been done before."""

    stage: Stage
    fresh: bool
    result: Any


@dataclass(frozen=True, slots=True)
class StagePlan:
    """One stage for `--dry-run`."""

    stage: Stage
    folder: str
    inputs: str
    state: Literal["done", "begun", "changed", "to do"]
    """`changed`: begun or done with another recipe, or behind such a stage; `--rerun` does it anew."""
    passes: list[PassPlan]


def stages_of(recipe: Recipe, until: str | None = None) -> list[Stage]:
    """The stages that the recipe has a section for, up to `until`."""
    stages: list[Stage] = [stage for stage in FOLDERS if getattr(recipe, stage) is not None]
    if not stages:
        raise ConfigError(f"this recipe has no stage; give it a section for some of {', '.join(FOLDERS)}")
    if until is None:
        return stages
    if until not in FOLDERS:
        raise ConfigError(f"--until {until}: there is no such stage; choose one of {', '.join(FOLDERS)}")
    if until not in stages:
        raise ConfigError(f"--until {until}: this recipe has no section {until}; it has {', '.join(stages)}")
    return stages[: stages.index(until) + 1]


def run(
    recipe: Recipe,
    workdir: Place,
    session: Session,
    *,
    until: str | None = None,
    rerun: bool = False,
    done: Callable[[StageResult], None] = lambda result: None,
) -> list[StageResult]:
    """Run the stages of `recipe` in `workdir`; calls `done` after each.

    The recipe is frozen in `workdir/recipe.yaml` at the first run. If it has changed since in a stage that has begun,
    `rerun` decides: raise ChangedError naming stages and keys, or do the changed stages and all that follows anew.
    Raises BusyError if another run holds the folder, StoppedEarly if the session is to stop.
    """
    stages = stages_of(recipe, until)
    _check_source(recipe)
    share = session.share
    rank = share.rank if share else None
    if share:
        _check_shared(recipe, workdir, rerun)
    with locked(workdir, "llmdata run", rank), closing(share) if share else nullcontext():
        touched = _touched(recipe, workdir, rerun)
        (workdir / RECIPE).write_bytes(recipes.dump(recipe).encode())
        results: list[StageResult] = []
        while len(results) < len(stages):
            stage = stages[len(results)]
            session.stop.check()
            anew = rerun and stage in touched
            if share and stage in ONE_PROCESS:
                share.take(stage, session)
            with locked(workdir / FOLDERS[stage], "llmdata run", rank):
                try:
                    result = _RUNNERS[stage](recipe, workdir, session, rerun, anew)
                except Again:
                    continue
            results.append(result)
            done(result)
    return results


def _check_shared(recipe: Recipe, workdir: Place, rerun: bool) -> None:
    if rerun:
        raise ConfigError("--rerun: clear a run with one process, then share it")
    if recipe.crawl is not None and not is_over(workdir / "crawl"):
        raise ConfigError("a crawl is the work of one process: finish it first (--until crawl, without --rank)")


def plan(recipe: Recipe, workdir: Place, until: str | None = None) -> list[StagePlan]:
    """What `run` would do, without doing it or writing anything."""
    plans = []
    _check_source(recipe)
    touched = _touched(recipe, workdir, rerun=True)
    for stage in stages_of(recipe, until):
        folder = workdir / FOLDERS[stage]
        stamp = stamp_of(folder)
        state: Literal["done", "begun", "changed", "to do"] = "to do"
        if stage in touched:
            state = "changed"
        elif stamp:
            # Training has one task, whose manifest is all that says that it is done.
            state = "done" if stamp.get("finished") or find(folder, stage) else "begun"
        steps: list[PassPlan] = []
        if stage == "clean" and recipe.clean is not None:
            config = _clean_config(recipe, workdir)
            known = recipe.crawl is None or (workdir / "crawl").children("*.warc.gz")
            steps = plan_clean(folder, config, base=_base(workdir)) if known else []
        plans.append(StagePlan(stage, str(folder), _inputs(recipe, stage), state, steps))
    return plans


def _inputs(recipe: Recipe, stage: Stage) -> str:
    if stage == "crawl":
        assert recipe.crawl is not None
        return ", ".join(recipe.crawl.seeds[:3]) + (" …" if len(recipe.crawl.seeds) > 3 else "")
    if stage == "clean":
        return "crawl/*.warc.gz" if recipe.crawl is not None else ", ".join((recipe.clean or CleanConfig()).input)
    return {"tokenizer": "clean/final", "tokenize": "clean/final, tokenizer", "train": "tokens"}[stage]


def _check_source(recipe: Recipe) -> None:
    if recipe.clean is not None and recipe.crawl is None and not recipe.clean.input:
        raise ConfigError(
            "this recipe has neither a crawl section nor clean.input, so there is nothing to read; "
            "give --set clean.input=[PATH] or use `llmdata clean PATH --recipe …`"
        )


def _touched(recipe: Recipe, workdir: Place, rerun: bool) -> set[Stage]:
    """Stages that have begun and that the recipe, as changed since the first run, touches: they and all after them."""
    path = workdir / RECIPE
    if not path.exists():
        return set()
    try:
        before = recipes.parse(Recipe, path.read_bytes().decode(errors="replace"), str(path))
    except ConfigError as error:
        raise ConfigError(
            f"{error}. This is the recipe that the run began with, damaged or of another version of llmdata. Remove "
            "the file, and the same command goes on: each stage knows by itself whether its settings have changed."
        ) from None
    old, new = before.model_dump(mode="json"), recipe.model_dump(mode="json")
    keys = _differences(old, new)
    begun = [stage for stage in FOLDERS if stamp_of(workdir / FOLDERS[stage])]
    first = next((stage for stage in begun if any(key == stage or key.startswith(f"{stage}.") for key in keys)), None)
    if first is None:
        return set()
    touched = begun[begun.index(first) :]
    if not rerun:
        changed = "; ".join(f"{key} was {_short(was)}, is {_short(now)}" for key, (was, now) in list(keys.items())[:5])
        raise ChangedError(
            f"{workdir}: the recipe has changed since the run began: {changed}. Touched: {', '.join(touched)}. "
            "Give --rerun to do these anew, or choose another --workdir."
        )
    return set(touched)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _differences(old: Any, new: Any, key: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for name in dict.fromkeys([*old, *new]):
            found |= _differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
        return found
    return {} if old == new else {key: (old, new)}


def _base(workdir: Place) -> str:
    return f"{str(workdir).rstrip('/')}/"


def _clean_config(recipe: Recipe, workdir: Place) -> CleanConfig:
    assert recipe.clean is not None
    if recipe.crawl is None:
        return recipe.clean
    return recipe.clean.model_copy(update={"input": [f"{glob.escape(str(workdir / 'crawl'))}/*.warc.gz"]})


def _crawl(recipe: Recipe, workdir: Place, session: Session, rerun: bool, anew: bool) -> StageResult:
    from llmdata.crawl import crawl

    assert recipe.crawl is not None
    try:
        result = crawl(recipe.crawl, workdir / "crawl", session, rerun=anew)
    except ChangedError:
        if not rerun:
            raise
        # An earlier --rerun was killed when it had frozen the recipe and not yet begun the crawl anew.
        result = crawl(recipe.crawl, workdir / "crawl", session, rerun=True)
    return StageResult("crawl", result.fresh, result)


def _clean(recipe: Recipe, workdir: Place, session: Session, rerun: bool, anew: bool) -> StageResult:
    config = _clean_config(recipe, workdir)
    result = run_clean(workdir / "clean", config, session, rerun=rerun, base=_base(workdir))
    return StageResult("clean", result.fresh, result)


def _tokenizer(recipe: Recipe, workdir: Place, session: Session, rerun: bool, anew: bool) -> StageResult:
    from llmdata.tokenizer import train_tokenizer

    assert recipe.tokenizer is not None
    inputs = [workdir / "clean" / "final"]
    result = train_tokenizer(inputs, workdir / "tokenizer", recipe.tokenizer, session, rerun=rerun)
    return StageResult("tokenizer", result.fresh, result)


def _tokenize(recipe: Recipe, workdir: Place, session: Session, rerun: bool, anew: bool) -> StageResult:
    from llmdata.tokenizer import tokenize

    assert recipe.tokenize is not None
    inputs = [workdir / "clean" / "final"]
    result = tokenize(inputs, workdir / "tokenizer", workdir / "tokens", recipe.tokenize, session, rerun=rerun)
    return StageResult("tokenize", result.fresh, result)


def _train(recipe: Recipe, workdir: Place, session: Session, rerun: bool, anew: bool) -> StageResult:
    from llmdata.train import train

    assert recipe.train is not None
    result = train(workdir / "tokens", workdir / "model", recipe.train, session, rerun=rerun)
    return StageResult("train", result.fresh, result)


_RUNNERS: dict[Stage, Callable[[Recipe, Place, Session, bool, bool], StageResult]] = {
    "crawl": _crawl,
    "clean": _clean,
    "tokenizer": _tokenizer,
    "tokenize": _tokenize,
    "train": _train,
}
