"""Publishers send the ids of crashes that are to be processed to a queue. Each module here is for one kind of queue."""
