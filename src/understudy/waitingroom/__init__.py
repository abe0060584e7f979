"""Who is next, and whose seat is it? A line before a sale, admission at a rate, and seats that nobody holds twice."""
