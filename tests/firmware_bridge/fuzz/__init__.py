"""Fuzz targets of the decoders: python -m tests.firmware_bridge.fuzz.NAME tests/firmware_bridge/fuzz/corpus/NAME"""
