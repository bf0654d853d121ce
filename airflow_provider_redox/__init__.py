"""Exchange clinical data with Redox from Apache Airflow. Imports nothing, so that Airflow's start costs nothing."""

__version__ = "0.1.0"
