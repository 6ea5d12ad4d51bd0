"""Converts a CSV file to a JSON file: {"from": "in.csv", "to": "out.json"} on stdin.

What a Python program has to know of Meanwhile: its input is one line of JSON on stdin, `say` sends a message, what it
prints otherwise is a log line, and SIGTERM means that nobody wants the result any more.
"""

import csv
import json
import os
import signal
import sys


def say(**message):
    """Sends a message: progress, chunk, log or result."""
    print(json.dumps(message), flush=True)


def fail(message):
    """Ends in a way that no further attempt can help."""
    print(message, file=sys.stderr)
    sys.exit(64)


def stop(*_):
    sys.exit("stopped: the file is left as it was")


def convert(source, target):
    """Writes beside the target first: who reads that never sees half a file. How many rows there were."""
    total = os.path.getsize(source)
    partial = f"{target}.partial"
    rows = 0
    try:
        with open(source, newline="", encoding="utf-8-sig") as lines, open(partial, "w", encoding="utf-8") as output:
            # Asking where the file stands is possible only in its bytes.
            for row in csv.DictReader(lines):
                output.write(("[\n" if rows == 0 else ",\n") + json.dumps(row, ensure_ascii=False))
                rows += 1
                if rows % 1000 == 0:
                    say(progress={"done": lines.buffer.tell(), "total": total, "message": f"{rows} rows"})
            output.write("[]\n" if rows == 0 else "\n]\n")
        os.replace(partial, target)
    finally:
        if os.path.exists(partial):
            os.remove(partial)
    say(progress={"done": total, "total": total, "message": f"{rows} rows"})
    return rows


def main():
    signal.signal(signal.SIGTERM, stop)
    task = json.load(sys.stdin)
    if not isinstance(task, dict) or not all(isinstance(task.get(key), str) for key in ("from", "to")):
        fail('the input has "from" and "to", the names of two files')
    if not os.path.isfile(task["from"]):
        fail(f"there is no file {task['from']}")
    attempt = os.environ.get("MEANWHILE_ATTEMPT", "1")
    print(f"converting {task['from']}, attempt {attempt}", flush=True)
    say(result={"rows": convert(task["from"], task["to"])})


if __name__ == "__main__":
    main()
