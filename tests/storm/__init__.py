"""Processes in bad weather: killed, frozen and cut off from the server, and the proof that no promise was broken."""
