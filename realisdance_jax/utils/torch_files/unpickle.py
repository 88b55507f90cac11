"""What torch.save pickled, read by a stack machine that knows only plain data and tensors.

Python's unpickler is not used: a name in the file (a "global") is never imported, only looked up in
the tables of globals.py, so a hostile file can at worst be refused.
"""

import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any

from realisdance_jax.utils.torch_files.globals import (
    CALLS,
    NAMES,
    REFUSED,
    Refused,
    StoredTensor,
    TorchName,
    Unbuilt,
    checked_keys,
    shown,
    storage_of,
)
from realisdance_jax.utils.torch_files.lazy import unexpected


def unpickle(data: bytes, where: str, tensor: Callable[[StoredTensor], Any]) -> Any:
    """The plain Python structure of a torch pickle, with `tensor(...)` in place of each tensor.

    Ordered dicts become dicts, parameters tensors, sizes tuples, devices and dtypes text, NumPy
    scalars Python numbers. Protocols 2 to 4.
    Raises `UserError`, beginning with `where`, for damaged data and for everything not listed.
    """
    machine = _Machine(tensor, call_budget=8 * len(data) + (1 << 16))
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name != "STOP":
                machine.step(opcode.name, argument)
        (content,) = machine.stack
    except Refused as refused:
        found = f"{refused}{machine.nearby()}; nothing was run"
        raise unexpected(where, "only tensors and plain data, as a state dict has", found) from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        found = f"a broken one ({ascii(str(error))[:80]})"
        raise unexpected(where, "a pickle of torch.save", found) from None
    return content


class _Machine:
    """Stack, marks and memo of the pickle format.

    call_budget: items and bytes that all calls together may take as arguments, since a call can
        copy them and the memo hands out one large value again and again.
    """

    def __init__(self, tensor: Callable[[StoredTensor], Any], call_budget: int) -> None:
        self.tensor = tensor
        self.call_budget = call_budget
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, opcode: str, argument: Any) -> None:
        if opcode in _PUSHED:
            self.stack.append(argument)
        elif opcode in _FRESH:
            self.stack.append(_FRESH[opcode]())
        elif opcode in _STEPS:
            _STEPS[opcode](self, argument)
        else:
            raise Refused(f"the pickle opcode {opcode}")

    def nearby(self) -> str:
        """The latest text on the stack: as a rule the name of the entry being read."""
        texts = [item for item in self.stack[-6:] if type(item) is str and item != "storage"]
        return f" at {shown(texts[-1])}" if texts else ""

    def since_mark(self) -> list[Any]:
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def last(self, count: int) -> list[Any]:
        if count > len(self.stack):
            raise IndexError("stack underflow")
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def remember(self, slot: int) -> None:
        top = self.stack[-1]
        if isinstance(top, Unbuilt):
            top.slot = slot
        self.memo[slot] = top

    def mention(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise Refused("a global that is not text")
        module = "builtins" if module == "__builtin__" else module
        full = re.sub(r"^numpy\.core\.", "numpy._core.", f"{module}.{name}")
        if full in REFUSED:
            raise Refused(REFUSED[full])
        if full not in CALLS and full not in NAMES:
            raise Refused(f"the global {shown(full)}")
        self.stack.append(TorchName(full))

    def call(self) -> None:
        function, arguments = self.last(2)
        if type(function) is not TorchName or function not in CALLS:
            raise Refused(f"a call of {shown(function)}")
        if type(arguments) is not tuple:
            raise TypeError("arguments that are no tuple")
        sized = (str, bytes, list, tuple, dict, set)
        self.call_budget -= sum(len(item) for item in arguments if isinstance(item, sized))
        if self.call_budget < 0:
            raise Refused("calls that copy large values over and over")
        value = CALLS[function](*arguments)
        self.stack.append(self.tensor(value) if type(value) is StoredTensor else value)

    def build(self) -> None:
        target, state = self.last(2)
        if isinstance(target, Unbuilt):
            slot, target = target.slot, target.finish(state)
            if slot is not None:
                self.memo[slot] = target
        elif type(target) is not dict:  # attributes of an ordered dict (_metadata) are dropped
            raise Refused("attributes set on an object")
        self.stack.append(target)

    def put(self, kind: type, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not kind:
            raise TypeError(f"items for a {kind.__name__} that is none")
        if kind is dict:
            target.update(zip(checked_keys(items[::2]), items[1::2], strict=True))
        elif kind is set:
            target.update(checked_keys(items))
        else:
            target.extend(items)


_PUSHED = frozenset(
    (
        *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"),
        *("BINSTRING", "SHORT_BINSTRING"),
    )
)

_FRESH: Mapping[str, Callable[[], Any]] = {
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}

_STEPS: Mapping[str, Callable[[_Machine, Any], Any]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.stack.append(tuple(m.last(1))),
    "TUPLE2": lambda m, _: m.stack.append(tuple(m.last(2))),
    "TUPLE3": lambda m, _: m.stack.append(tuple(m.last(3))),
    "APPEND": lambda m, _: m.put(list, m.last(1)),
    "APPENDS": lambda m, _: m.put(list, m.since_mark()),
    "ADDITEMS": lambda m, _: m.put(set, m.since_mark()),
    "SETITEM": lambda m, _: m.put(dict, m.last(2)),
    "SETITEMS": lambda m, _: m.put(dict, m.since_mark()),
    "BINPUT": lambda m, slot: m.remember(slot),
    "LONG_BINPUT": lambda m, slot: m.remember(slot),
    "MEMOIZE": lambda m, _: m.remember(len(m.memo)),
    "BINGET": lambda m, slot: m.stack.append(m.memo[slot]),
    "LONG_BINGET": lambda m, slot: m.stack.append(m.memo[slot]),
    "GLOBAL": lambda m, names: m.mention(*names.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.mention(*m.last(2)),
    "REDUCE": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.stack.append(storage_of(m.last(1)[0])),
}
