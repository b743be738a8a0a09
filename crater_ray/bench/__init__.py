QUERIES, FEW = 240, 100  # of the 1,500 craters on the Moon, FEW for dear configurations: under 90 minutes
