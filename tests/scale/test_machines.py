"""A web server and three workers that share a database, a broker and a bucket, and nothing else."""

from __future__ import annotations

from datetime import timedelta

from tests.scale.site import Answer, Site, sha256

WORKERS_OF_JOBS = """
    SELECT job.id::text, job.status, job.attempts, job.fence, job.started_at, job.finished_at, worker.pid,
           worker.variant, (SELECT count(*) FROM generation_sample WHERE job_id = job.id) AS samples
    FROM generation_generationjob job LEFT JOIN generation_worker worker ON worker.id = job.worker_id
    WHERE job.id::text = ANY(%s) ORDER BY job.started_at
"""


def audio(site: Site, url: str, **headers: str) -> Answer:
    return site.ask("GET", url, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_a_take_is_made_kept_in_s3_resumed_and_played(site: Site) -> None:
    first = site.finished(site.generate(seed=7))
    assert (first["status"], first["error"]) == ("succeeded", "")

    resumed = site.finished(site.generate(seed=8, init_latent_id=first["latent_id"], t_start=0.5, duration=None))
    assert (resumed["status"], resumed["error"], resumed["steps"]) == ("succeeded", "", 2)
    [record] = site.rows("SELECT * FROM latents_latentrecord WHERE id = %s", resumed["latent_id"])
    assert str(record["parent_id"]) == first["latent_id"]
    latents = site.ask("GET", f"/latents/{resumed['latent_id']}/download")
    assert sha256(latents.body) == record["sha256"]

    [sample] = resumed["samples"]
    [row] = site.rows("SELECT * FROM generation_sample WHERE id = %s", sample["id"])
    whole = audio(site, sample["audio_url"])
    assert (whole.status, sha256(whole.body)) == (200, row["sha256"])
    part = audio(site, sample["audio_url"], Range="bytes=1000-1999")
    assert (part.status, part.body) == (206, whole.body[1000:2000])
    assert part.headers["Content-Range"] == f"bytes 1000-1999/{row['size_bytes']}"
    rest = audio(site, sample["audio_url"], Range="bytes=-500")
    assert rest.body == whole.body[-500:]
    assert audio(site, sample["audio_url"], Range=f"bytes={row['size_bytes']}-").status == 416
    assert audio(site, f"{sample['audio_url']}?format=opus").body[:4] == b"OggS"


def test_jobs_are_done_once_each_and_no_worker_idles_while_they_wait(site: Site) -> None:
    jobs = [site.generate(duration=10, inference_steps=30) for _ in range(8)]
    for job in jobs:
        assert site.finished(job)["status"] == "succeeded"
    rows = site.rows(WORKERS_OF_JOBS, jobs)
    assert [(row["attempts"], row["fence"], row["samples"]) for row in rows] == [(1, 1, 1)] * len(jobs)
    by_worker = {row["pid"]: [other for other in rows if other["pid"] == row["pid"]] for row in rows}
    assert len(by_worker) == 2
    last_start = rows[-1]["started_at"]
    for done in by_worker.values():
        ends = [row["finished_at"] for row in done if row["finished_at"] < last_start]
        starts = [row["started_at"] for row in done[1:]] + [last_start]
        pauses = [start - end for start, end in zip(starts, ends, strict=False)]
        assert max(pauses, default=timedelta()) < timedelta(seconds=2), "a worker idled while jobs were waiting"


def test_a_model_is_worked_on_by_its_own_workers_only(site: Site) -> None:
    jobs = [site.generate(model_variant=variant) for variant in ("tiny", "tiny-turbo") for _ in range(2)]
    for job in jobs:
        site.finished(job)
    rows = {row["id"]: row["variant"] for row in site.rows(WORKERS_OF_JOBS, jobs)}
    assert [rows[job] for job in jobs] == ["tiny", "tiny", "tiny-turbo", "tiny-turbo"]


def test_nothing_is_kept_on_any_machine(site: Site) -> None:
    site.finished(site.generate())
    assert [path for name in ("web", "east", "west", "north") for path in (site.folder / name).rglob("*")] == []


def test_other_peoples_music_is_not_found(site: Site) -> None:
    job = site.generate()
    site.finished(job)
    assert site.ask("GET", f"/generation/jobs/{job}/", user="bob").status == 404
    assert site.ask("GET", f"/generation/jobs/{job}/", user="").status == 401
