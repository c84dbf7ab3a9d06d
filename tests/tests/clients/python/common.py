"""What all scripts need: where the nodes are, and how to change a row by SQL."""
import os
import subprocess
import sys
import time

import redis

NODES = [(host, int(port)) for host, _, port in (node.rpartition(":") for node in os.environ["NODES"].split(","))]


def sql(statement):
    subprocess.run([os.environ["SQL"], statement], check=True, stdout=subprocess.DEVNULL)


def until(what, check, seconds=30):
    end = time.monotonic() + seconds
    while not check():
        if time.monotonic() > end:
            sys.exit(f"not in time: {what}")
        time.sleep(0.002)


print("redis-py", redis.__version__)
