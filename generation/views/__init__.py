"""What the studio answers over HTTP, one module per thing that a person sees."""
