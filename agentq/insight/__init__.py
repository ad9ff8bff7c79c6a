"""What an operator asks: why a run rests, who works, what waits, and whether the ground it stands on is sound.

`facts` are the data, `redis` and `server` read them, `why` and `checks` judge them without any I/O.
"""
