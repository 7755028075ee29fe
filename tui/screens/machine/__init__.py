"""The Machine screen: what the machine that trains is busy with."""
