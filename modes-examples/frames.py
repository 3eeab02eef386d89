#!/usr/bin/env python3
"""Sends LLDP, STP and LACP frames from eth0 of one process's network namespace and compares what arrives at another's.

usage: frames.py FROM_PID TO_PID
"""
import ctypes
import os
import socket
import sys

ETH_P_ALL = 3
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


def packet_socket(pid):
    """A raw socket on eth0 of the namespace: it stays there when we leave."""
    home, there = os.open("/proc/self/ns/net", os.O_RDONLY), os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    if libc.setns(there, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    made.bind(("eth0", 0))
    made.settimeout(5)
    libc.setns(home, CLONE_NEWNET)
    return made


def frames():
    source = bytes.fromhex("020000000009")
    for name, last, kind in ("STP", 0x00, 0x0026), ("LACP", 0x02, 0x8809), ("LLDP", 0x0E, 0x88CC):
        yield name, bytes.fromhex("0180c20000") + bytes([last]) + source + kind.to_bytes(2, "big") + bytes(range(60))


sender, receiver = (packet_socket(pid) for pid in sys.argv[1:3])
for name, frame in frames():
    sender.send(frame)
    while (arrived := receiver.recv(2000))[:6] != frame[:6]:
        pass
    if arrived != frame:
        sys.exit(f"{name}: {frame.hex()} arrived as {arrived.hex()}")
    print(f"{name}: {len(frame)} bytes arrived as sent")
