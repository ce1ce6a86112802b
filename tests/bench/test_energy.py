"""bench/energy: what an INA3221 in sysfs and a line of tegrastats say."""

import numpy as np
import pytest

from bench.energy import mean_power, rails_w, read_tegrastats, tegrastats_celsius, tegrastats_rails_w
from edgevla.doctor.probe import Tree
from edgevla.errors import BadInput

# A Jetson TX2 (L4T 32) says no unit, an AGX Orin (L4T 35) says mW, a date before it and -256 of zones that are off.
TX2 = (
    "RAM 2020/7852MB (lfb 1164x4MB) CPU [9%@345,21%@345,25%@345,3%@345] EMC_FREQ 0% GR3D_FREQ 0% PLL@42.5C MCPU@42.5C "
    "thermal@41.9C VDD_SYS_GPU 153/158 VDD_SYS_SOC 536/547 VDD_IN 3140/3208 VDD_SYS_CPU 536/590"
)
ORIN = (
    "04-11-2025 10:36:27 RAM 4321/62801MB (lfb 1759x4MB) SWAP 19/31400MB (cached 0MB) CPU [0%@729,0%@729] "
    "EMC_FREQ 0%@2133 GR3D_FREQ 0%@[0,0] VIC_FREQ 729 APE 174 CV0@-256C CPU@44.562C tj@44.343C "
    "VDD_GPU_SOC 2340mW/2340mW VDD_CPU_CV 390mW/390mW VIN_SYS_5V0 4025mW/4025mW NC 0mW/0mW"
)


def chip(root, **files):
    folder = root / "sys/class/hwmon/hwmon1"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text + "\n")


def test_power_is_that_of_the_rails_that_have_a_name(tmp_path):
    chip(tmp_path, name="ina3221", in1_label="VDD_IN", in1_input="5000", curr1_input="2000", in2_input="5000")
    chip(tmp_path, in3_label="VDD_SOC", in3_input="4984", curr3_input="304")
    assert rails_w(Tree(tmp_path)) == {"VDD_IN": 10.0, "VDD_SOC": pytest.approx(1.515136)}
    chip(tmp_path, name="coretemp")
    assert rails_w(Tree(tmp_path)) == {}
    assert np.isfinite(list(rails_w(Tree()).values())).all()


def test_the_rails_of_a_line_with_and_without_a_unit():
    assert tegrastats_rails_w(TX2) == {
        "VDD_SYS_GPU": 0.153,
        "VDD_SYS_SOC": 0.536,
        "VDD_IN": 3.14,
        "VDD_SYS_CPU": 0.536,
    }
    assert tegrastats_rails_w(ORIN) == {"VDD_GPU_SOC": 2.34, "VDD_CPU_CV": 0.39, "VIN_SYS_5V0": 4.025}
    assert tegrastats_rails_w("RAM 2020/7852MB SWAP 19/31400MB IRAM 0/252kB") == {}


def test_temperatures_leave_out_zones_that_are_off():
    assert tegrastats_celsius(TX2) == {"PLL": 42.5, "MCPU": 42.5, "thermal": 41.9}
    assert tegrastats_celsius(ORIN) == {"CPU": 44.562, "tj": 44.343}


def test_a_mean_is_over_the_looks_that_saw_the_rail():
    assert mean_power([{}, {"A": 1.0}, {"A": 3.0, "B": 5.0}]) == {"mean_w": {"A": 2.0, "B": 5.0}, "samples": 2}
    assert mean_power([{}, {}]) is None


def test_a_log_is_read_whole_and_one_without_power_is_refused(tmp_path):
    log = tmp_path / "tegrastats.log"
    log.write_text(f"{ORIN}\n{ORIN.replace('2340mW/', '2540mW/').replace('44.343', '51.5')}\n\n")
    found = read_tegrastats(log)
    assert (found["mean_w"]["VDD_GPU_SOC"], found["samples"], found["max_celsius"]["tj"]) == (2.44, 2, 51.5)
    log.write_text("RAM 2020/7852MB\n")
    with pytest.raises(BadInput, match="no power"):
        read_tegrastats(log)
    with pytest.raises(BadInput, match="cannot read"):
        read_tegrastats(tmp_path / "absent")
