"""The training loop: steps, measurements, samples, checkpoints, and how a stopped or killed run goes on.

What a run writes depends on its settings and tokens alone, not on where it was killed: everything random is drawn from
(seed, step), the data position is in the checkpoint, and metrics later than the checkpoint are cut off before going on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from llmdata.engine.session import Session
from llmdata.errors import ConfigError, LlmdataError, StoppedEarly
from llmdata.storage.place import Place
from llmdata.storage.token_index import TokenIndex
from llmdata.train import checkpoint as checkpoints
from llmdata.train.config import NgramConfig, TrainConfig
from llmdata.train.data import (
    Batches,
    Ids,
    Position,
    TokenText,
    Windows,
    check_vocabulary,
    evaluation_windows,
    load_sources,
    own_tokenizer,
)
from llmdata.train.device import attention_kernels, autocast, choose_device, peak_flops, reproducible, wants_compile
from llmdata.train.hf import load_hf
from llmdata.train.metrics import Log, loss_curve, read_lines
from llmdata.train.model import Decoder, cross_entropy
from llmdata.train.networks import Network, build
from llmdata.train.optim import Flat, Layout, Optimizer, learning_rate
from llmdata.train.parallel import ALONE, Ranks
from llmdata.train.plan import USABLE
from llmdata.train.replicas import Replicas, seed_of
from llmdata.train.run import CURVE, METRICS, SAMPLES, TrainResult
from llmdata.train.sampling import CHECKPOINTS, MODEL, Sampling, complete
from llmdata.train.sharded import Sharded, initialise_shards, shard, sharded_micro_batch, wants_sharding
from llmdata.train.trackers import Tracker, trackers

FLUSH = 16
"""Steps between two looks at the losses: on a GPU each look waits for all work queued."""
PATIENCE = 20
"""Bad steps in a row, or rollbacks between two checkpoints, after which the run ends."""


class Trainer:
    """One run. `run` is its only use from outside."""

    def __init__(
        self,
        tokens: Place,
        index: TokenIndex,
        out: Place,
        config: TrainConfig,
        session: Session,
        threads: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.index, self.out, self.config, self.session, self.threads = index, out, config, session, threads
        self.steps = config.steps
        shape = config.shape
        assert not isinstance(shape, NgramConfig)  # which is counted
        self.shape = shape
        self.context = shape.context
        self.sequences = config.data.batch_tokens // self.context
        self.device = choose_device(config.device, ranks)
        if self.sequences < ranks.size:
            raise ConfigError(
                f"a batch of {self.sequences} sequences (train.data.batch_tokens / context) for {ranks.size} ranks: "
                "start fewer, or raise batch_tokens"
            )
        vocabulary = check_vocabulary(index, shape.vocab_size)
        memory = torch.cuda.get_device_properties(self.device).total_memory if self.device.type == "cuda" else math.inf
        self.sharded = wants_sharding(config, vocabulary, memory, ranks)
        self.encoding = own_tokenizer(tokens, index, out if ranks.first else None)
        self.val = TokenText.of(tokens, index, "val")
        sources = [
            Windows(TokenText.of(folder, other, "train"), self.context, Position(config.data.seed + number))
            for number, (folder, other) in enumerate(load_sources(tokens, index, config.data.mix))
        ]
        weights = [config.data.weight, *(source.weight for source in config.data.mix)]
        share = ranks.share(self.sequences)
        self.batches = Batches(sources, self.sequences, weights, share)
        self.share: int = share.stop - share.start  # sequences of each batch that are this rank's
        self.model = self._build(vocabulary)
        self.flops = self.model.training_flops()
        peak = config.peak_flops or peak_flops(self.device)
        self.peak = peak and peak * ranks.size
        muon = config.optim.name == "muon"
        self.layout: Layout = (
            Sharded(cast(Decoder, self.model), muon, ranks) if self.sharded else Flat(self.model, muon, ranks)
        )
        self.optimizer = Optimizer(self.layout, config.optim, config.loop.spike)
        self.forward = self.model  # a micro-batch is looked for before it is compiled for
        self.compiled = False
        self.replicas: Replicas | None = None
        self.micro = self._micro_batch(vocabulary, memory)
        if wants_compile(config, self.device):
            if isinstance(self.model, Decoder):
                self.model.flexible = self.device.type == "cuda"  # on a CPU it has no backward pass
            self.forward = cast(Network, torch.compile(self.model, dynamic=False))
            self.compiled = self.device.type == "cuda"
        elif isinstance(self.layout, Flat) and self.device.type == "cpu" and threads > 1:
            self.replicas = Replicas(self.model, self.layout.gradient, threads, self.share, self._add_gradient)
        self.eot = index.eot if config.data.mask_documents else None

        self.step = 0
        self.shown = 0  # steps that the progress knows of
        self.seconds = 0.0  # of training alone
        self.drawn = 0  # batches taken from the data
        self.passed_over: dict[int, int] = {}  # batches that a rollback leaves out, and the step that each undid
        self.rollbacks = 0  # since the last checkpoint
        self.bad_in_a_row = 0
        self.measured: dict[str, float] = {}  # the last validation
        self.pending: list[tuple[dict[str, Any], Tensor]] = []  # steps whose figures are still on the device
        self.lines: list[dict[str, Any]] = []  # what is not written down yet, its last step to be measured before
        self.trackers: list[Tracker] = []
        self.writer: checkpoints.Writer | None = None  # on the first rank

    def run(self) -> TrainResult:
        with reproducible(self.threads):
            if self.ranks.first:
                folder = (self.out / CHECKPOINTS).mkdir()
                self.writer = checkpoints.Writer(folder, self.config.keep_last, self.config.keep_best, self._save_due)
            try:
                self._resume()
                settings = self.config.model_dump(mode="json")
                if self.ranks.first:
                    self.trackers = trackers(self.config.track, self.out, self.step, settings)
                self.session.progress.start("train", self.steps, "steps")
                self._show()
                self._loop()
                self._wait()
            except StoppedEarly:
                if self.session.stop.wanted:  # else the disk is full
                    self._save_for_later()
                raise
            finally:
                if self.writer is not None:
                    self.writer.close()
                for tracker in self.trackers:
                    tracker.close()
                if self.replicas is not None:
                    self.replicas.close()
        return self.ranks.on_first(self._finish)

    # -- the loop

    def _loop(self) -> None:
        eval_every = self.config.eval_every or max(1, self.steps // 20)
        sample_every = self.config.sample_every or max(1, self.steps // 20)
        while self.step < self.steps or self.lines:
            if not self.lines:
                self._heed_stop()
                self._train_step()
            last = self.step == self.steps
            evaluate, sample = (last or self.step % every == 0 for every in (eval_every, sample_every))
            save = self._save_due(self.step)
            look = self.step % FLUSH == 0 or evaluate or sample or save or self.lines
            if look and not self._look(evaluate, sample):
                continue  # rolled back
            if save:
                self._save()

    def _heed_stop(self) -> None:
        """Raise StoppedEarly where a stop is asked for, on every rank at the same point, whichever heard it."""
        if self.ranks.agree(self.session.stop):
            self.session.stop.check()

    def _save_for_later(self) -> None:
        """What to do about a stop, which may have come while the last step was measured."""
        if not self.pending or self._look():
            self._save()
        self._wait()
        self.ranks.meet()  # `torchrun` kills the others where one has left

    def _train_step(self) -> None:
        began = time.perf_counter()
        lr = learning_rate(self.config.optim, self.step, self.steps)
        seed = seed_of(self.config.seed, self.step, self.ranks.rank) if self.shape.dropout else None
        loss = self.ranks.sum(self._gradient(self._next_batch(), seed))
        if isinstance(self.layout, Flat):
            self.ranks.sum(self.layout.gradient)
        stats = self.optimizer.step(lr, loss)
        self.step += 1
        self.seconds += time.perf_counter() - began
        line = {"step": self.step, "tokens": self.step * self.config.data.batch_tokens, "lr": lr}
        self.pending.append((line | {"batch": self.drawn - 1} | self._times(), stats))

    def _next_batch(self) -> Ids:
        while True:
            batch = self.batches.next()
            self.drawn += 1
            if self.drawn - 1 not in self.passed_over:
                return batch

    def _gradient(self, batch: Ids, seed: int | None = None) -> Tensor:
        """Add the gradient of the mean loss over the batch, as far as it is of this rank's rows of it, `batch`.

        Dropout draws from `seed`. Returns what they add to that loss, still on the device.
        """
        if seed is not None:
            torch.manual_seed(seed)
        if not self.model.training:
            self.model.train()  # which goes through all modules
        if self.replicas is not None:
            return self.replicas.add_gradient(batch, seed)
        tokens = torch.from_numpy(batch)
        if self.device.type == "cuda":
            tokens = tokens.pin_memory().to(self.device, non_blocking=True)
        return self._add_gradient(self.forward, tokens)

    def _add_gradient(self, model: Network, tokens: Tensor) -> Tensor:
        """Add the gradient of these sequences of the batch, one micro-batch after the other."""
        total = torch.zeros((), device=self.device)
        for start in range(0, len(tokens), self.micro):
            part = tokens[start : start + self.micro]
            with autocast(self.device, self.config.dtype), attention_kernels(self.device, self.eot is None):
                loss = self._loss(model, part) * (len(part) / self.sequences)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return total

    def _loss(self, model: Network, tokens: Tensor) -> Tensor:
        """Mean loss of predicting each of `tokens` (B, T + 1) but the first of a row."""
        hidden = model(tokens[:, :-1], self.eot)  # (B, T, C)
        targets = tokens[:, 1:].flatten()
        return cross_entropy(
            hidden.flatten(0, 1),
            model.head_weight,
            targets,
            vocabulary=model.vocab_size,
            compiled=self.compiled,
        )

    # -- looking at it

    def _look(self, evaluate: bool = False, sample: bool = False) -> bool:
        """Write the lines of the steps since the last look, with what belongs to the last; False if it rolled back.

        Where a stop comes in between, that step's lines go into the checkpoint, and whoever goes on begins here.
        """
        if not self._read():
            return False
        if evaluate or sample:
            self._record([line for line in self.lines if line["step"] < self.step])
            self.lines = [line for line in self.lines if line["step"] == self.step]
        measured = self._evaluate() if evaluate else {}
        texts = self._sample() if sample else []
        lines, self.lines = self.lines, []
        lines[-1] |= measured
        self._record(lines, texts)
        self._show({key: (lines[-1] | self.measured).get(key) for key in ("loss", "val_loss")})
        return True

    def _read(self) -> bool:
        """Make lines of the steps since the last look and deal with bad ones; False if that meant rolling back."""
        pending, self.pending = self.pending, []
        if not pending:
            return True
        began = time.perf_counter()
        values = torch.stack([stats for _, stats in pending]).tolist()
        self.seconds += time.perf_counter() - began  # waiting for the device is training too
        for (line, _), (loss, norm, bad) in zip(pending, values, strict=True):
            batch = line.pop("batch")
            line |= {"loss": _finite(loss), "grad_norm": _finite(norm)}
            self.bad_in_a_row = self.bad_in_a_row + 1 if bad else 0
            if bad:
                what = f"step {line['step']}: loss {loss:.4g}, gradient {norm:.4g}"
                if self.config.loop.on_spike == "rollback":
                    self._roll_back(line["step"], batch, what)
                    return False
                line["skipped"] = True
                self._bad(what, line)
            # Rollbacks are told before the step that they undid, wherever the checkpoint was that they went back to.
            undone = [passed for passed, step in sorted(self.passed_over.items()) if step == line["step"]]
            self.lines += [{"step": line["step"], "event": "rollback", "batch": passed} for passed in undone]
            self.lines.append(line)
        return True

    def _show(self, figures: dict[str, float | None] | None = None) -> None:
        """Let the progress know how far it is, and these figures."""
        shown: dict[str, float | str] = {key: value for key, value in (figures or {}).items() if value is not None}
        if figures:
            shown["tokens/s"] = round(self._rate())
            if self.peak:
                shown["MFU"] = f"{self._mfu():.1%}"
        self.session.progress.advance("train", self.step - self.shown, **shown)
        self.shown = self.step

    def _record(self, lines: list[dict[str, Any]], texts: Sequence[str] = ()) -> None:
        """Write down what the first rank knows: figures, and what the model wrote after the prompts."""
        written = list(zip(self.config.sample_prompts, texts, strict=True)) if texts else []
        if self.ranks.first:
            self.metrics.append(lines)
            if written:
                self.samples.append([{"step": self.step, "prompt": prompt, "text": text} for prompt, text in written])
        for tracker in self.trackers:
            for line in lines:
                tracker.log(line)
            if written:
                tracker.sample(self.step, [prompt + text for prompt, text in written])

    def _bad(self, what: str, line: dict[str, Any]) -> None:
        """Policies skip and stop: the update has been left out already."""
        stop = self.config.loop.on_spike == "stop"
        if not stop and self.bad_in_a_row < PATIENCE:
            self.session.progress.note(f"{what}: this step's update is left out")
            return
        self._record([*self.lines, line])
        often = "" if stop else f" ({PATIENCE} steps in a row)"
        raise LlmdataError(
            f"{what}{often}: training has broken away. What checkpoints are in {self.out / CHECKPOINTS} are from "
            "before. Lower train.optim.lr, or choose train.loop.on_spike=rollback."
        )

    def _roll_back(self, step: int, batch: int, what: str) -> None:
        """Back to the last checkpoint, to pass over the batch of the bad step from now on."""
        self.rollbacks += 1
        if self.rollbacks > PATIENCE:
            raise LlmdataError(
                f"{what}: rolled back {PATIENCE} times since the last checkpoint in {self.out / CHECKPOINTS}. "
                "Lower train.optim.lr."
            )
        self.passed_over[batch] = step
        self._wait()
        self._resume()
        self.session.progress.note(f"{what}: back to step {self.step}, passing over batch {batch}")
        self._show()

    def _evaluate(self) -> dict[str, float]:
        """Loss on the validation split; empty if there is none. Bits a byte count the bytes that its text had."""
        split = self.index.splits.get("val")
        if split is None or len(self.val) < 2:
            return {}
        self.model.eval()
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        count = 0
        kernels = attention_kernels(self.device, self.eot is None)
        with torch.no_grad(), autocast(self.device, self.config.dtype), kernels:
            sequences = max(1, 8192 // self.context) * self.ranks.size
            for batch in evaluation_windows(self.val, self.context, self.config.eval_tokens, sequences):
                self._heed_stop()
                mine = batch[self.ranks.share(len(batch))]
                targets = mine[:, 1:].size
                # Sharded, each takes part in every forward pass, even where no row is left for it.
                if targets or self.sharded:
                    tokens = torch.from_numpy(mine if targets else batch[:1]).to(self.device)
                    total += self._loss(self.model, tokens) * targets
                count += targets
        loss = self.ranks.sum(total).item() / self.ranks.sum(torch.tensor(count)).item()
        self.measured = {"val_loss": loss, "val_perplexity": math.exp(min(loss, 700))}
        if split.bytes:
            self.measured["bits_per_byte"] = loss / math.log(2) * split.tokens / split.bytes
        return self.measured

    def _sample(self) -> list[str]:
        """What the model writes after each of the prompts; none where that is not wanted, or another rank's to do."""
        prompts = self.config.sample_prompts
        if not self.config.sample_tokens or not prompts:
            return []
        if not self.ranks.first and not self.sharded:
            return []  # sharded, all take part in each forward pass
        together = self.sharded or self.ranks.size == 1
        heed = (lambda row, piece: self._heed_stop()) if together else None
        sampling = Sampling(self.config.sample_tokens, self.config.sample_temperature, seed=self.config.seed)
        self.model.eval()
        with autocast(self.device, self.config.dtype), attention_kernels(self.device, cudnn=False):
            return complete(self.model, self.encoding, self.index.eot, prompts, sampling, heed)

    def _rate(self) -> float:
        return self.step * self.config.data.batch_tokens / max(self.seconds, 1e-9)

    def _mfu(self) -> float:
        """Model FLOP utilisation (arXiv 2204.02311, appendix B): arithmetic that the model needs, of what there is."""
        return self._rate() * self.flops / self.peak if self.peak else 0.0

    def _times(self) -> dict[str, float]:
        times = {"seconds": round(self.seconds, 3), "tokens_per_second": round(self._rate(), 1)}
        if self.peak:
            times["mfu"] = round(self._mfu(), 4)
        if self.device.type == "cuda":
            times["peak_memory"] = torch.cuda.max_memory_allocated(self.device)
        return times

    # -- beginning, going on, ending

    def _build(self, vocabulary: int) -> Network:
        with torch.device("meta"):
            model = build(self.shape, vocabulary)
        if self.sharded:
            shard(cast(Decoder, model), self.device.type, self.ranks)
        model.to_empty(device=self.device)
        if isinstance(model, Decoder):
            model.reset_rope()
            model.recompute = self.config.recompute
        generator = torch.Generator(self.device).manual_seed(self.config.seed)
        values = load_hf(Place.of(self.config.init))[2] if self.config.init is not None else None
        if self.sharded:
            initialise_shards(cast(Decoder, model), generator, values)
        elif values is not None:
            model.load_state_dict(values)
        else:
            model.initialise(generator)
        self.parameters = model.parameter_count()
        about = {
            "preset": self.config.model if isinstance(self.config.model, str) else None,
            "parameters": self.parameters,
            "vocab_size": vocabulary,
            "eot": self.index.eot,
            "tokenizer_digest": self.index.tokenizer_digest,
            "model": self.shape.model_dump(mode="json"),
        }
        if self.ranks.first:
            (self.out / MODEL).write_json(about)
        return model

    def _micro_batch(self, vocabulary: int, memory: float) -> int:
        """Sequences a forward pass: as told; on a CPU what keeps activations near the caches; on a GPU what fits."""
        given = self.config.data.micro_batch
        if isinstance(given, int):
            return min(given, self.share)
        if self.device.type == "cpu":
            return min(self.share, max(1, 8192 // self.context))
        if self.sharded:
            fits = sharded_micro_batch(self.config, vocabulary, memory, self.ranks)
            return self.ranks.least(min(self.share, fits))
        # A margin for what else takes memory: other shapes compiled, validation, the driver's and cuBLAS's own.
        torch.cuda.set_per_process_memory_fraction(USABLE, self.device.index)
        micro = self.share
        while True:
            try:
                self.micro, self.eot = micro, None
                self._gradient(np.zeros((micro, self.context + 1), dtype=np.int64))
                self.layout.clear()
            except torch.cuda.OutOfMemoryError:
                if micro == 1:
                    raise LlmdataError(
                        "not even one sequence fits in the GPU's memory: set train.recompute=true, or choose a smaller "
                        "model or context"
                    ) from None
            else:
                break
            micro = -(-micro // 2)
            self.layout.clear()
            torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(1.0, self.device.index)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        return self.ranks.least(micro)

    def _save_due(self, step: int) -> bool:
        every = self.config.checkpoint_every or max(1, self.steps // 10)
        first = 0 if self.config.loop.on_spike == "rollback" else 1
        return step == self.steps or (step >= first and step % every == 0)

    def _save(self) -> None:
        self.rollbacks = 0
        evaluated = self.config.eval_every or max(1, self.steps // 20)
        here = self.step == self.steps or self.step % evaluated == 0
        state = {
            "step": self.step,
            "val_loss": self.measured.get("val_loss") if here and not self.lines else None,
            "measured": self.measured,
            "lines": list(self.lines),  # as they are now: it is written while training goes on
            "data": [asdict(position) for position in self.batches.positions],
            "drawn": self.drawn,
            "passed_over": sorted(self.passed_over.items()),
            "bad_in_a_row": self.bad_in_a_row,
            "micro_batch": self.micro,
            "threads": self.threads,
            "ranks": self.ranks.size,
            "seconds": self.seconds,
        }
        self._wait()  # before there is another copy of it all
        model, optimizer = self.layout.weights(), self.optimizer.tensors()
        if self.writer is not None:
            self.writer.save(self.step, state, model, optimizer)

    def _wait(self) -> None:
        """Until the last checkpoint is on disk."""
        if self.writer is not None:
            self.writer.wait()

    def _resume(self) -> None:
        """Take up the last checkpoint, if there is one, and cut the records back to it."""
        tensors: dict[str, dict[str, Tensor]] = {}  # on the first rank, which alone has to see the folder

        def read() -> dict[str, Any] | None:
            found = checkpoints.checkpoints(self.out / CHECKPOINTS)
            if not found:
                return None
            for part in ("model", "optimizer"):
                tensors[part] = checkpoints.read_tensors(found[-1] / f"{part}.safetensors")
            return checkpoints.read_state(found[-1])

        state = self.ranks.on_first(read)
        if state is not None:
            self.layout.set_weights(tensors.get("model"))
            self.optimizer.load(tensors.get("optimizer"))
            self.step, self.seconds, self.drawn = state["step"], state["seconds"], state["drawn"]
            self.passed_over |= dict(state["passed_over"])
            self.bad_in_a_row = state["bad_in_a_row"]
            self.measured = state["measured"]
            self.lines = state.get("lines", [])
            self.batches.seek([Position(**position) for position in state["data"]])
        else:
            self.lines = [{"step": 0, "tokens": 0, **self._times()}]
        self.pending = []
        self.layout.clear()
        step = self.step - bool(self.lines)
        if self.ranks.first:
            self.metrics, self.samples = Log(self.out / METRICS, step), Log(self.out / SAMPLES, step)

    def _finish(self) -> TrainResult:
        lines, samples = list(read_lines(self.out / METRICS)), list(read_lines(self.out / SAMPLES))
        name = self.config.model if isinstance(self.config.model, str) else "model"
        title = f"{name}, {self.parameters / 1e6:,.2f}M parameters"
        (self.out / CURVE).write_bytes(loss_curve(lines, title).encode())
        final = [line["loss"] for line in lines[-50:] if line.get("loss") is not None]
        texts = [sample["prompt"] + sample["text"] for sample in samples if sample["prompt"] == samples[0]["prompt"]]
        result = TrainResult(
            steps=self.steps,
            tokens=self.steps * self.config.data.batch_tokens,
            parameters=self.parameters,
            loss=sum(final) / len(final) if final else math.nan,
            val_loss=self.measured.get("val_loss"),
            perplexity=self.measured.get("val_perplexity"),
            bits_per_byte=self.measured.get("bits_per_byte"),
            seconds=round(self.seconds, 3),
            tokens_per_second=round(self._rate(), 1),
            checkpoint=f"{CHECKPOINTS}/step-{self.steps:06d}",
            sample_before=texts[0] if texts else None,
            sample_after=texts[-1] if texts else None,
        )
        facts = {"loss": result.loss} | ({"val_loss": result.val_loss} if result.val_loss is not None else {})
        self.session.progress.finish("train", **facts)
        return result


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
