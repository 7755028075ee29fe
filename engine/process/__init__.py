"""The engine process: its main function, socket, signals and end."""
