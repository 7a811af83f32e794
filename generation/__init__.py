"""Ask for music and watch it being made: pages, jobs, and the engine that makes it."""
