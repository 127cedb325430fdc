"""What an experiment of NNI becomes here: the lines to write, with the names that the file has.

No rewriting could do this: an experiment is an object that is configured and run, and a search is
one call.  So the report on a file has the call, made of what the file gives to NNI's classes.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from .names import is_nni

__all__ = ["experiment_lines"]


def experiment_lines(tree: ast.Module) -> dict[str, str]:
    r"""Return what to write for NNI's experiments, evaluators and middleware, by their names.

    Parameters
    ----------
    tree
        A file.

    Examples
    --------
    >>> lines = experiment_lines(
    ...     ast.parse(
    ...         "evaluator = FunctionalEvaluator(train)\n"
    ...         "exp = NasExperiment(Net(), evaluator, strategy)\n"
    ...         "exp.config.max_trial_number = 9\n"
    ...     )
    ... )
    >>> lines["NasExperiment"]
    'write result = nas_space.search(Net(), train, strategy=strategy, trials=9)'
    """
    return _Script(tree).lines()


class _Script:
    """A file, and what is assigned and called in it."""

    def __init__(self, tree: ast.Module) -> None:
        self.names: dict[str, str] = {}
        self.roots: set[str] = set()
        self.foreign: set[str] = set()
        self.classes: dict[str, ast.ClassDef] = {}
        self.functions: dict[str, ast.FunctionDef] = {}
        self.assigned: list[tuple[str, ast.expr]] = []
        self.calls: list[ast.Call] = []
        # In the order of the file, for a name stands for what it was last assigned before its use.
        # Which branch ran, or what a function was given, is not followed: the lines that are
        # written from this are for a person to read.
        for node in sorted(ast.walk(tree), key=lambda node: getattr(node, "lineno", 0)):
            if isinstance(node, ast.ImportFrom):
                bound = {alias.asname or alias.name: alias.name for alias in node.names}
                if is_nni(node.module or ""):
                    self.names |= bound
                    self.roots |= set(bound)  # of a module, such as strategy
                else:
                    self.foreign |= set(bound)
            elif isinstance(node, ast.Import):
                nni = [alias for alias in node.names if is_nni(alias.name)]
                self.roots |= {alias.asname or "nni" for alias in nni}
            elif isinstance(node, ast.ClassDef):
                self.classes[node.name] = node
            elif isinstance(node, ast.FunctionDef):
                self.functions[node.name] = node
            elif isinstance(node, ast.Assign):
                for target in node.targets:
                    self.assigned.append((ast.unparse(target), node.value))
            elif isinstance(node, ast.Call):
                self.calls.append(node)

    def lines(self) -> dict[str, str]:
        found: dict[str, list[str]] = {}
        for call in self.calls:
            name = self.called(call)
            how = _BECOMES.get(name)
            if how is not None:
                text = how if isinstance(how, str) else how(self, call)
                found.setdefault(name, []).append(text)
        return {name: "; ".join(dict.fromkeys(texts)) for name, texts in found.items()}

    def called(self, call: ast.Call) -> str:
        """Return what NNI calls the class or function of a call; nothing if it is not NNI's."""
        path = ast.unparse(call.func).split(".")
        root, local = path[0], path[-1]
        if isinstance(call.func, ast.Name):
            return self.names.get(local, "" if local in self.foreign else local)
        return local if root in self.roots or local == "export_top_models" else ""

    def value(self, node: ast.expr, line: int) -> ast.expr:
        """Return what a name was last assigned before some line; anything else as it is."""
        if not isinstance(node, ast.Name):
            return node
        before = [v for name, v in self.assigned if name == node.id and v.lineno <= line]
        return before[-1] if before else node

    def set_on(self, call: ast.Call, attribute: str) -> str | None:
        """Return what is assigned to an attribute of the configuration of what a call makes."""
        own = [name for name, value in self.assigned if value is call]
        found = [
            ast.unparse(value)
            for name, value in self.assigned
            if name in {f"{each}.config.{attribute}" for each in own}
        ]
        return found[-1] if found else None


def _arguments(call: ast.Call, *names: str) -> dict[str, ast.expr]:
    """Return the arguments of a call by name; ``names`` are those of the positional ones."""
    given = dict(zip(names, call.args, strict=False))
    return given | {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def _text(node: Any) -> str:
    return "..." if node is None else ast.unparse(node)


def _if_given(arguments: dict[str, ast.expr], name: str) -> str | None:
    return ast.unparse(arguments[name]) if name in arguments else None


def _call(name: str, *positional: str, **named: str | None) -> str:
    parts = [*positional, *(f"{key}={value}" for key, value in named.items() if value is not None)]
    return f"{name}({', '.join(parts)})"


def _experiment(script: _Script, call: ast.Call) -> str:
    given = _arguments(call, "model_space", "evaluator", "strategy")
    evaluator = given.get("evaluator")
    made = None if evaluator is None else script.value(evaluator, call.lineno)
    kind = script.called(made) if isinstance(made, ast.Call) else ""
    target, epochs = _text(evaluator), None
    if kind == "FunctionalEvaluator" and isinstance(made, ast.Call):
        target = _function(made)
    elif kind in _TASKS and isinstance(made, ast.Call):
        target, epochs = "task", _epochs(made)
    search = _call(
        "nas_space.search",
        _text(given.get("model_space")),
        target,
        strategy=_text(given.get("strategy")),
        trials=script.set_on(call, "max_trial_number"),
        workers=script.set_on(call, "trial_concurrency"),
        epochs=epochs,
    )
    exported = any(script.called(each) == "export_top_models" for each in script.calls)
    tops = "; result.best() is the best architecture, result.top(k) the k best" if exported else ""
    return f"write result = {search}{tops}"


def _function(call: ast.Call) -> str:
    """Return the function of a functional evaluator, with the arguments that it is given."""
    given = _arguments(call, "function")
    function = _text(given.pop("function", None))
    if not given:
        return function
    return _call("functools.partial", function, **{key: _text(v) for key, v in given.items()})


def _functional(script: _Script, call: ast.Call) -> str:
    name = _text(_arguments(call, "function").get("function"))
    parameters = ["network", "arch"]
    if name in script.functions:
        first, *others = map(ast.unparse, _parameters(script.functions[name]))
        parameters = [first, "arch", *others]
    return (
        f"give {_function(call)} itself to nas_space.search, and let it take the architecture as "
        f"well: def {name}({', '.join(parameters)})"
    )


def _parameters(function: ast.FunctionDef) -> list[Any]:
    return [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs] or [
        ast.Name("network", ast.Load())
    ]


def _epochs(call: ast.Call) -> str | None:
    """Return how long an evaluator trains: said to itself, or to its trainer."""
    given = _arguments(call, "lightning_module", "trainer")
    trainer = given.get("trainer")
    if isinstance(trainer, ast.Call):
        given = _arguments(trainer)
    return _if_given(given, "max_epochs")


def _supervised(kind: str) -> Callable[[_Script, ast.Call], str]:
    def write(_: _Script, call: ast.Call) -> str:
        given = _arguments(call)
        settings = {
            name: _text(given[theirs])
            for name, theirs in (("lr", "learning_rate"), ("weight_decay", "weight_decay"))
            if theirs in given
        }
        optimizer = _if_given(given, "optimizer") or "torch.optim.Adam"
        task = _call(
            f"nas_space.training.Task.{kind}",
            _text(given.get("train_dataloaders")),
            _text(given.get("val_dataloaders")),
            optimizer=_call("functools.partial", optimizer, **settings) if settings else optimizer,
            loss=_call(_text(given["criterion"])) if "criterion" in given else None,
        )
        return f"write task = {task}{_fitted(call)}"

    return write


def _fitted(call: ast.Call) -> str:
    fit = _call("nas_space.training.fit", "network", "task", epochs=_epochs(call))
    return f"; evaluator.fit(network) is {fit}"


def _lightning(script: _Script, call: ast.Call) -> str:
    given = _arguments(call, "lightning_module", "trainer")
    module = given.get("lightning_module")
    made = None if module is None else script.value(module, call.lineno)
    metrics = _logged(script, made)
    task = _call(
        "nas_space.training.Task.from_lightning",
        _text(module),
        metrics=f"{{{', '.join(f'{name!r}: {way!r}' for name, way in metrics.items())}}}",
        network="'model'",
        train=_if_given(given, "train_dataloaders"),
        validation=_if_given(given, "val_dataloaders"),
    )
    return (
        f"write task = {task}, whose module is a LightningModule, or any torch.nn.Module with "
        f"these steps, that has the network as its attribute model{_fitted(call)}"
    )


def _logged(script: _Script, module: ast.expr | None) -> dict[str, str]:
    """Return the metrics that the validation step of a class logs, and which way is better."""
    kind = script.classes.get(_text(module.func)) if isinstance(module, ast.Call) else None
    names = [name for name in _log_names(kind) if not name.startswith("train")] if kind else []
    if not names:
        return {"val_acc": "max"}
    return {name: "min" if "loss" in name or "err" in name else "max" for name in names}


def _log_names(kind: ast.ClassDef) -> Iterator[str]:
    for step in kind.body:
        if isinstance(step, ast.FunctionDef) and step.name == "validation_step":
            for node in ast.walk(step):
                if (
                    isinstance(node, ast.Call)
                    and ast.unparse(node.func) == "self.log"
                    and node.args
                    and isinstance(node.args[0], ast.Constant)
                ):
                    yield str(node.args[0].value)


def _chained(script: _Script, call: ast.Call) -> str:
    first = script.value(call.args[0], call.lineno) if call.args else None
    return (
        f"give {_text(first)} itself to nas_space.search: what Chain adds to it are arguments of "
        "the search, or of the space"
    )


def _filtered(_: _Script, call: ast.Call) -> str:
    function = _text(_arguments(call, "filter_fn").get("filter_fn"))
    return (
        f"restrict the space by what {function} asks for, as in nas_space.search(space.where("
        "macs(space, (3, 224, 224)) <= limit), ...): what is not allowed is never drawn"
    )


def _handled(_: _Script, call: ast.Call) -> str:
    given = _arguments(call)
    if "retry_patience" in given:
        return (
            "write nas_space.search(..., failures=n): a failed trial is recorded with its "
            "traceback, and the search goes on until n have failed; to try one again "
            f"{_text(given['retry_patience'])} times, do so in the function that evaluates"
        )
    return (
        "write nas_space.search(..., failures=n): a failed trial is recorded with its traceback, "
        f"strategies see that it failed, without {_text(given.get('metric'))} for a metric, and "
        "the search goes on until n have failed"
    )


def _repeated(_: _Script, call: ast.Call) -> str:
    repeat = _text(_arguments(call, "repeat").get("repeat"))
    return f"return the mean of {repeat} runs from the function given to nas_space.search"


def _traced(_: _Script, call: ast.Call) -> str:
    return f"leave it out, and write {_text(call.args[0]) if call.args else 'the class'} itself"


_TASKS = ("Classification", "Regression", "Lightning")

_BECOMES: dict[str, str | Callable[[_Script, ast.Call], str]] = {
    "NasExperiment": _experiment,
    "RetiariiExperiment": _experiment,
    "FunctionalEvaluator": _functional,
    "Classification": _supervised("classification"),
    "Regression": _supervised("regression"),
    "Lightning": _lightning,
    "Chain": _chained,
    "Filter": _filtered,
    "FailureHandler": _handled,
    "Deduplication": "leave it out: nas_space.search never tries an architecture twice",
    "MultipleEvaluation": _repeated,
    "MedianStop": "write nas_space.search(..., pruner=optuna.pruners.MedianPruner()), and report "
    "by nas_space.study.report(value, step)",
    "trace": _traced,
}
"""What is written for a call, by what NNI calls its class."""
