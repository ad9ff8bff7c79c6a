"""What a model is told besides the transcript, and how much of that."""
