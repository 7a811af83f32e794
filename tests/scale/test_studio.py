"""A studio on PostgreSQL, Redis and S3, used as its users and its operators do."""

from __future__ import annotations

from tests.scale.site import ROOT, WEB, Answer, Site, sha256


def audio(site: Site, url: str, **headers: str) -> Answer:
    return site.ask("GET", url, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_a_take_is_made_kept_in_s3_resumed_and_played(site: Site) -> None:
    first = site.finished(site.generate(seed=7))
    assert (first["status"], first["error"]) == ("succeeded", "")

    resumed = site.finished(
        site.generate(seed=8, init_latent_id=first["latent_id"], t_start=0.5, duration=None, shift=1)
    )
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


def test_other_peoples_music_is_not_found(site: Site) -> None:
    job = site.generate()
    site.finished(job)
    assert site.ask("GET", f"/generation/jobs/{job}/", user="bob").status == 404
    assert site.ask("GET", f"/generation/jobs/{job}/", user="").status == 401


def test_every_line_about_a_job_names_worker_job_and_attempt_and_none_says_what_it_is(site: Site) -> None:
    job = site.generate(caption="a secret for nobody else")
    site.finished(job)
    log = (site.folder / "east.log").read_text()
    lines = [line for line in log.splitlines() if "generation.tasks" in line and job in line]
    assert lines
    assert all(" worker=" in line and f" job={job} attempt=1: " in line for line in lines)
    assert "secret" not in log + (site.folder / "web.log").read_text()


def test_metrics_are_for_staff(site: Site) -> None:
    site.finished(site.generate())
    assert site.ask("GET", "/metrics", user="bob").status == 403
    metrics = site.ask("GET", "/metrics").body.decode()
    assert 'reprise_jobs_finished_last_hour{status="succeeded",variant="tiny"}' in metrics
    assert 'reprise_workers{state="' in metrics


def test_web_server_is_started_here_as_the_documentation_says() -> None:
    words = (ROOT / "docs/operating.md").read_text().replace("\\\n", " ").split()
    assert " ".join(WEB.format(port=8000).split()) in " ".join(words).replace("/opt/reprise/app/.venv/bin/", "")
