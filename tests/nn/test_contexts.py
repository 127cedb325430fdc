"""Whatever is entered by ``with`` is left alone: in any order, thread or task."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import ExitStack
from typing import Any

import pytest
import torch

from nas_space.interop.nni_compat import current_model, model_context
from nas_space.mutable import Categorical, frozen_context, label_scope
from nas_space.mutable.frozen_contexts import _DEFAULTING, dry_run
from nas_space.mutable.labels import strict_label_scope
from nas_space.nn import LayerChoice, ModelSpace, MutableLinear
from nas_space.nn.activation import current
from nas_space.nn.construction import Slim, building_for, inside_space, slim
from nas_space.nn.decisions import Gated, Traced, Weighted
from nas_space.nn.elastic import _BLANK, blank_layers


class Net(ModelSpace):
    def __init__(self) -> None:
        super().__init__()
        self.op = LayerChoice([torch.nn.Tanh(), torch.nn.Sigmoid(), torch.nn.ReLU()], label="op")

    def forward(self, x: Any) -> Any:
        return self.op(x)


SPACE = Net()


def _weighted(place: int) -> Any:
    return Weighted({"op": torch.eye(3)[place]})


def _gated(place: int) -> Any:
    return Gated({"op": torch.eye(3)[place]}, {"op": (place, place)})


CONTEXTS: dict[str, tuple[Callable[[int], Any], Callable[[], Any]]] = {
    "activate": (lambda place: SPACE.activate({"op": place}), current),
    "Traced": (lambda place: Traced(SPACE.read({"op": place})), current),
    "Weighted": (_weighted, current),
    "Gated": (_gated, current),
    "frozen_context": (lambda place: frozen_context({"op": place}), frozen_context.current),
    "bypass": (lambda _: frozen_context.bypass(), frozen_context.current),
    "dry_run": (lambda _: dry_run(), lambda: (_DEFAULTING.last(), frozen_context.current())),
    "label_scope": (lambda place: label_scope(f"s{place}"), label_scope.current),
    "strict_label_scope": (lambda place: strict_label_scope(f"s{place}"), label_scope.current),
    "model_context": (lambda place: model_context({"op": place}), current_model),
    "building_for": (lambda place: building_for(Slim({"op": place})), slim),
    "inside_space": (lambda _: inside_space(), lambda: None),
    "blank_layers": (lambda _: blank_layers(), _BLANK.last),
}
"""How to enter one of three, and what says which one is entered."""

every = pytest.mark.parametrize("name", CONTEXTS)


def held(context: Any) -> Generator[None, None, None]:
    with context:
        yield


@every
def test_what_a_generator_holds_open_is_left_alone(name):
    make, seen = CONTEXTS[name]
    outside = seen()
    generator = held(make(0))
    next(generator)
    with make(1):
        inside = seen()
        generator.close()
        assert seen() == inside
        with make(2):
            pass
        assert seen() == inside
    assert seen() == outside


@every
def test_what_is_collected_is_left_alone(name):
    make, seen = CONTEXTS[name]
    outside = seen()
    generator = held(make(0))
    next(generator)
    with make(1):
        inside = seen()
        del generator
        gc.collect(0)
        assert seen() == inside
    assert seen() == outside


@every
def test_contexts_are_left_in_any_order(name):
    make, seen = CONTEXTS[name]
    outside = seen()
    for order in ((0, 1, 2), (1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1)):
        generators = [held(make(place)) for place in range(3)]
        states = []
        for generator in generators:
            next(generator)
            states.append(seen())
        here = [0, 1, 2]
        for place in order:
            generators[place].close()
            here.remove(place)
            if here and name not in ("bypass", "inside_space"):
                assert seen() == states[here[-1]]
        assert seen() == outside


@every
def test_what_another_thread_closes_is_left_where_it_was_entered(name):
    make, seen = CONTEXTS[name]
    outside = seen()
    generator = held(make(0))
    next(generator)

    def close() -> None:
        with make(1):
            inside = seen()
            generator.close()
            assert seen() == inside

    failed: list[BaseException] = []

    def run() -> None:
        try:
            close()
        except BaseException as error:  # noqa: BLE001 - raised in the test below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert not failed
    assert seen() == outside
    with make(2):
        pass
    assert seen() == outside


@every
def test_tasks_keep_apart(name):
    make, seen = CONTEXTS[name]
    outside = seen()

    async def pages() -> AsyncIterator[None]:
        with make(0):
            yield
            yield

    async def closes(generator: Any, entered: asyncio.Event) -> None:
        await entered.wait()
        with make(1):
            inside = seen()
            await generator.aclose()
            assert seen() == inside

    async def main() -> None:
        generator: Any = pages()
        entered = asyncio.Event()
        task = asyncio.create_task(closes(generator, entered))
        await anext(generator)
        entered.set()
        await task
        assert seen() == outside
        await asyncio.gather(*[switching(place) for place in range(3)])

    async def switching(place: int) -> None:
        with make(place):
            mine = seen()
            for _ in range(3):
                await asyncio.sleep(0)
                assert seen() == mine

    asyncio.run(main())
    assert seen() == outside


def test_a_task_keeps_what_was_active_where_it_was_made():
    x = torch.linspace(-1, 1, 3)

    async def main() -> None:
        async def later() -> Any:
            await asyncio.sleep(0)
            return SPACE(x)

        with SPACE.activate({"op": 1}), SPACE.activate({"op": 2}):
            task = asyncio.create_task(later())
        assert torch.equal(await task, x.relu())

    asyncio.run(main())


def test_one_activation_is_entered_in_a_context_of_its_own_and_left_there():
    active, x = SPACE.activate({"op": 0}), torch.ones(1)
    with active:
        context = contextvars.copy_context()
        generator = held(active)
        context.run(next, generator)
        with SPACE.activate({"op": 2}):
            generator.close()
            assert torch.equal(SPACE(x), x.relu())
        assert torch.equal(SPACE(x), x.tanh())
    assert current() is None


def test_architectures_that_are_closed_while_another_runs_leave_its_output_alone():
    width = Categorical([1, 2, 3], label="w")
    layer, x = MutableLinear(2, width), torch.ones(1, 2)

    def outputs(w: int) -> Generator[Any, None, None]:
        from nas_space.nn.activation import Activation

        with Activation(layer.read({"w": w})):
            while True:
                yield layer(x)

    generators = {w: outputs(w) for w in (1, 2, 3)}
    for w in (1, 2, 3):
        assert next(generators[w]).shape == (1, w)
    generators[3].close()
    assert layer(x).shape == (1, 2)
    generators[1].close()
    assert layer(x).shape == (1, 2)


def test_an_exit_stack_may_hand_over_what_it_entered():
    with ExitStack() as stack:
        stack.enter_context(SPACE.activate({"op": 0}))
        later = stack.pop_all()
    with SPACE.activate({"op": 1}):
        later.close()
        assert torch.equal(SPACE(torch.ones(1)), torch.ones(1).sigmoid())


def test_threads_may_run_one_mixture_at_once():
    """What is known in a branch of one is not known in the other."""
    inside, other_is_done = threading.Event(), threading.Event()

    class Waits(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                inside.set()
                assert other_is_done.wait(20)
            return x

    class Branches(ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            self.op = LayerChoice([Waits(), torch.nn.Tanh()], label="op")
            self.linear = MutableLinear(2, 2, bias=self.op.choice == 1)

        def forward(self, x: Any) -> Any:
            return self.linear(self.op(x))

    space, x = Branches(), torch.randn(3, 2)
    mixture = Weighted({"op": torch.tensor([0.5, 0.5])})
    found: list[torch.Tensor] = []

    def run() -> None:
        with mixture:
            found.append(space(x))

    thread = threading.Thread(target=run)
    thread.start()
    assert inside.wait(20)
    assert mixture.known == ()
    run()
    other_is_done.set()
    thread.join()
    with Weighted({"op": torch.tensor([0.5, 0.5])}):
        expected = space(x)
    for output in found:
        assert torch.equal(output, expected)
