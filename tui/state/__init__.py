"""What the dashboard knows: events reduced to what widgets show."""
