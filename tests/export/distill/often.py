"""The real command line, logging every ten steps; started by test_distil.py under a launcher that takes a module."""

from export.distill import loop, student

if __name__ == "__main__":
    loop.LOG_EVERY = 10
    student.main()
