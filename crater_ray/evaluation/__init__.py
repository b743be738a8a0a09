"""What retrieval is worth: metrics, a job's queries scored, a job's tokens encoded once. Public."""
