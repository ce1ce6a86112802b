"""Coverage of our modules guides the fuzzer; the tests that call the same checks need no atheris."""

from __future__ import annotations

import contextlib


def instrumented(main: bool) -> contextlib.AbstractContextManager[object]:
    if not main:
        return contextlib.nullcontext()
    import atheris

    return atheris.instrument_imports(include=["edgevla.trust"])
