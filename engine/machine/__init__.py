"""What the machine that trains is busy with: read at a cost that training does not feel."""
