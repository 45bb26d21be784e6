"""What a search over everything takes: `bin/test tests/perf/test_search.py -s`, with PORTICO_PERF_SIZE=50000.

Asked through the API, in one process: signing in, permission, the search and its JSON count, HTTP does not. CPU is that
of the process and of PostgreSQL's, which a busy machine inflates less than the time that passes.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.perf.conftest import SIZE, Portal
from tests.perf.generate import write

QUESTIONS = 560
# In a process of its own: this one's database is the tests'.
ASK = """
import json, sys, time
from collections import defaultdict
from pathlib import Path
from django.db import connection
from django.test import Client
from access.models import User
from access.services import create_token, create_user, grant
from tests.perf.search_data import add_passages_and_activity, questions

size, count = int(sys.argv[1]), int(sys.argv[2])
passages, activities = add_passages_and_activity()
with connection.cursor() as cursor:
    cursor.execute("VACUUM ANALYZE")
    cursor.execute("SELECT pg_backend_pid()")
    backend = Path(f"/proc/{cursor.fetchone()[0]}/stat")
user = create_user(username="seeker", name="Seeker", email="seeker@acme.example")
grant(role="viewer", user=user)
headers = {"Authorization": f"Bearer {create_token(user=user, name='measured').text}"}
client = Client(headers=headers, HTTP_HOST="localhost")


def of_database():
    fields = backend.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * 10.0


def ask(text):
    return client.get("/api/v1/search", {"q": text})


for _sort, text in questions(28, size=size, seed=1):
    ask(text)
took, cpu, found = defaultdict(list), defaultdict(float), defaultdict(list)
for sort, text in questions(count, size=size):
    begun, mine, others = time.perf_counter(), time.process_time(), of_database()
    answer = ask(text)
    took[sort].append((time.perf_counter() - begun) * 1000)
    cpu[sort] += (time.process_time() - mine) * 1000 + of_database() - others
    assert answer.status_code == 200, answer.content
    found[sort].append(bool(answer.json()["results"]))
print(json.dumps({
    "passages": passages, "activities": activities,
    "rows": {
        sort: [sorted(times), cpu[sort] / len(times), sum(found[sort]) / len(times)] for sort, times in took.items()
    },
}))
"""


def test_a_search_over_everything(portal: Portal, tmp_path: Path) -> None:
    write(tmp_path, SIZE)
    portal.run("import_catalog", str(tmp_path), "--json")
    script = tmp_path / "ask.py"
    script.write_text(f"import sys; sys.argv[1:] = ['{SIZE}', '{QUESTIONS}']\n{ASK}")
    out = portal.run("shell", "-v", "0", "-c", f"exec(open({str(script)!r}).read(), {{}})").out
    measured = json.loads(out.strip().splitlines()[-1])
    print(f"\n{SIZE} entities, {measured['passages']} passages, {measured['activities']} activities; ms")
    print("| | median | p95 | CPU | answered |\n| --- | --: | --: | --: | --: |")
    everything: list[float] = []
    costs: list[float] = []
    for sort, (took, cpu, answered) in measured["rows"].items():
        everything += took
        costs.append(cpu)
        print(f"| {sort} | {_at(took, 0.5):.1f} | {_at(took, 0.95):.1f} | {cpu:.1f} | {answered:.0%} |")
        if sort not in ("nothing",):
            assert answered > 0.5, sort
    everything.sort()
    mean = sum(costs) / len(costs)
    print(f"| all | {_at(everything, 0.5):.1f} | {_at(everything, 0.95):.1f} | {mean:.1f} | |")


def _at(values: list[float], share: float) -> float:
    return values[min(int(len(values) * share), len(values) - 1)]
