"""The workstation half: teacher -> student -> int8 -> bundle. Needs `pip install 'edgevla[export]'`."""
