"""A roofline as a table."""

from __future__ import annotations

from bench.roofline.classes import Row, total
from bench.roofline.run import Roofline
from edgevla.cli.output import print_table, say
from edgevla.telemetry.host import describe_host, host_line

COLUMNS = ("operators", "n", "ms", "of time", "multiply-adds", "reached", "peak", "of peak", "left on the table, ms")


def print_roofline(found: Roofline) -> None:
    """The classes, the sum, the peaks and the host."""
    sums, peaks = total(found.rows), found.peaks
    lines = [_line(row) for row in found.rows]
    lines.append(("all", "", f"{sums['ms']:.3f}", "100 %", "", "", "", f"{100 * sums['share_of_ceiling']:.0f} %",
                  f"{sums['left_ms']:.3f}"))  # fmt: skip
    print_table(f"one chunk, {'FP32' if found.float_model else 'as shipped'}, one thread", COLUMNS, lines)
    say(
        f"peaks of one thread here: FP32 {peaks.fp32_gops:.0f} Gop/s, U8S8 {peaks.u8s8_gops:.0f} Gop/s, "
        f"copy {peaks.copy_gbs:.0f} GB/s; profiled passes: {found.rounds}, "
        f"{found.recorder_us:.1f} us of recording taken off each operator"
    )
    say(host_line(describe_host()))


def _line(row: Row) -> tuple[str, ...]:
    def number(value: float | None, form: str) -> str:
        return "" if value is None else form.format(value)

    return (
        row.name, str(row.operators or ""), f"{row.ms:.3f}", f"{100 * row.share_of_time:.1f} %",
        f"{row.multiply_adds:,}" if row.multiply_adds else "", number(row.reached, "{:.1f} " + row.unit),
        number(row.peak, "{:.0f}"), number(None if row.share_of_peak is None else 100 * row.share_of_peak, "{:.0f} %"),
        f"{row.left_ms:.3f}",
    )  # fmt: skip
