"""Teams of workers, which compute the iterations of a stage."""
