"""Portal addresses of accounts."""

from django.urls import path

from accounts import portal

urlpatterns = [
    path("sign-in", portal.SignIn.as_view(), name="sign-in"),
    path("sign-in/link", portal.sign_in_link, name="sign-in-link"),
    path("sign-out", portal.SignOut.as_view(), name="sign-out"),
]
