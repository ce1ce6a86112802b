import time,subprocess
t=time.time()
print(open("/proc/uptime").read())
print(subprocess.run("ip link add dev vcan0 type vcan; ip link set vcan0 mtu 72 up; ip link; uname -r; ls -la /dev/pts",shell=True,capture_output=True,text=True))
import numpy; print("numpy",time.time()-t)
import pytest; print("pytest",time.time()-t)
import can; print("can",time.time()-t)
import hypothesis; print("hyp",time.time()-t)
import socket,os
a=socket.socket(socket.PF_CAN,socket.SOCK_RAW,socket.CAN_RAW);a.bind(("vcan0",))
b=socket.socket(socket.PF_CAN,socket.SOCK_RAW,socket.CAN_RAW);b.bind(("vcan0",))
import struct
b.setsockopt(socket.SOL_CAN_RAW, socket.CAN_RAW_ERR_FILTER, struct.pack("=I", 0x1fffffff))
n=time.perf_counter()
for i in range(200):
    os.write(a.fileno(),struct.pack("=IB3x8s",i,8,b"12345678")); b.recv(16)
print("us per frame",(time.perf_counter()-n)/200*1e6)
os.write(a.fileno(),struct.pack("=IB3x8s",0x20000040,8,b"12345678")); b.settimeout(1); print("ERR",b.recv(16))
t=time.time()
print(subprocess.run(["slcand","-h"],capture_output=True) if 0 else "")
print(subprocess.run([os.sys.executable,"-c","import numpy"],capture_output=True),time.time()-t)
