"""What a task does that sends: at most once, one message or a file of thousands, over kills, retries and clears."""
