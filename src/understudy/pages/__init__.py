"""How does it look? Templates and charts, for reports and dashboards."""
