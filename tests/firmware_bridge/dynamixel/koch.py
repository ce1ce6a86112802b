"""A Koch that is calibrated: how it is moved, and the file of it."""

# What LeRobot 0.4.4's KochFollower.calibrate and Robot._save_calibration (draccus, indent 4) make of the arm below:
# middle at 2309 counts (wrist_roll: 3352, an offset beyond what position mode heeds), then 326 below, 489 above.
# `tests_lerobot/test_koch_calibration.py` has LeRobot itself write it.
KOCH_FILE = """{
    "shoulder_pan": {
        "id": 1,
        "drive_mode": 0,
        "homing_offset": -262,
        "range_min": 0,
        "range_max": 4095
    },
    "shoulder_lift": {
        "id": 2,
        "drive_mode": 0,
        "homing_offset": -262,
        "range_min": 1721,
        "range_max": 2536
    },
    "elbow_flex": {
        "id": 3,
        "drive_mode": 0,
        "homing_offset": -262,
        "range_min": 1721,
        "range_max": 2536
    },
    "wrist_flex": {
        "id": 4,
        "drive_mode": 0,
        "homing_offset": -262,
        "range_min": 1721,
        "range_max": 2536
    },
    "wrist_roll": {
        "id": 5,
        "drive_mode": 0,
        "homing_offset": -1305,
        "range_min": 0,
        "range_max": 4095
    },
    "gripper": {
        "id": 6,
        "drive_mode": 0,
        "homing_offset": -262,
        "range_min": 1721,
        "range_max": 2536
    }
}"""
MIDDLE = [2309, 2309, 2309, 2309, 3352, 2309]
LOWER, UPPER = -326, 489
