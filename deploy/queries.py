#!/usr/bin/env python3
"""Asks a running Prometheus every query of the dashboards, and whether it can evaluate all of its rules.

    deploy/queries.py http://127.0.0.1:9090 deploy/grafana/dashboards/*.json

A query that Prometheus refuses is an error. One without a result is named: that is right for what has not happened yet.
"""
import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request


def ask(server, path, **arguments):
    url = f"{server}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def wait_for_scrapes(server):
    """A rate needs two scrapes of the same process."""
    query = "min(count_over_time(up[1m]) and up == 1) >= 4 and min(time() - freshline_process_start_time_seconds) > 20"
    for _ in range(120):
        try:
            answer = ask(server, "query", query=query)
            if answer.get("data", {}).get("result"):
                return
        except OSError:
            pass  # it starts
        time.sleep(0.5)
    sys.exit("Prometheus does not scrape the nodes and the sync service")


def main(server, dashboards):
    wait_for_scrapes(server)
    bad, empty, asked = [], [], 0
    for file in dashboards:
        with open(file, encoding="utf-8") as text:
            panels = json.load(text)["panels"]
        for panel in panels:
            for target in panel.get("targets", []):
                asked += 1
                answer = ask(server, "query", query=target["expr"])
                place = f"{panel['title']}: {target['expr']}"
                if answer["status"] != "success":
                    bad.append(f"{place}\n    {answer.get('error')}")
                elif not answer["data"]["result"]:
                    empty.append(place)
    rules = [rule for group in ask(server, "rules")["data"]["groups"] for rule in group["rules"]]
    for rule in rules:
        if rule["health"] != "ok":
            bad.append(f"alert {rule['name']}: {rule['health']} {rule.get('lastError', '')}")
    if not rules:
        bad.append("Prometheus has no rules")
    firing = [rule["name"] for rule in rules if rule["state"] == "firing"]
    print(f"  {asked} queries asked, {len(rules)} alerts evaluated, firing: {', '.join(firing) or 'none'}")
    for query in empty:
        print(f"  no result: {query}")
    for problem in bad:
        print(f"  BAD {problem}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1].rstrip("/"), sys.argv[2:]))
