"""Dynamixel X series over protocol 2.0: https://emanual.robotis.com/docs/en/dxl/protocol2/"""
